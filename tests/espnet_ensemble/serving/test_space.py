import ast

import pytest
import yaml

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.serving.space import write_space
from espnet_ensemble.version import __version__


def front_matter(card):
    return yaml.safe_load(card.read_text().split("---\n")[1])


def test_a_published_model_is_named(tmp_path):
    files = write_space("lab/wavlm_hubert", tmp_path / "space", title="Digits: all")
    assert [file.name for file in files] == ["app.py", "README.md", "requirements.txt"]
    app, card, requirements = files
    assert 'MODEL = "lab/wavlm_hubert"' in app.read_text()
    ast.parse(app.read_text())
    assert "Path" not in app.read_text()
    assert front_matter(card)["title"] == "Digits: all"
    assert front_matter(card)["models"] == ["lab/wavlm_hubert"]
    assert front_matter(card)["app_file"] == "app.py"
    assert requirements.read_text() == f"espnet-ensemble[serve]=={__version__}\n"


def test_an_archive_comes_along(tmp_path):
    (tmp_path / "model.zip").write_bytes(b"weights")
    files = write_space(tmp_path / "model.zip", tmp_path / "space")
    assert files[-1].read_bytes() == b"weights"
    assert 'Path(__file__).parent / "model.zip"' in files[0].read_text()
    assert front_matter(files[1])["title"] == "model"
    assert str(tmp_path) not in "".join(file.read_text() for file in files[:3])


def test_it_can_be_written_again(tmp_path):
    write_space("lab/one", tmp_path)
    write_space("lab/two", tmp_path)
    assert "lab/two" in (tmp_path / "app.py").read_text()


@pytest.mark.parametrize("model", ["exp/asr/x", "exp"])
def test_what_is_no_archive_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exp").mkdir()
    with pytest.raises(EnsembleError, match="expected an archive"):
        write_space(model, tmp_path / "space")
