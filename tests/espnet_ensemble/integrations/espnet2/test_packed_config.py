"""What a packed configuration may say, and how ESPnet finds the frontend by its name."""

import pytest
from espnet2.tasks.asr import frontend_choices

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.integrations.espnet2.frontend import EnsembleFrontend
from espnet_ensemble.integrations.espnet2.packed_config import (
    CHOICES,
    ENSEMBLE_WITH_ADVICE,
    check_config,
    is_ensemble,
)

NAMES = {"upstreams/wavlm", "upstreams/hubert.pt", "data/bpe.model"}
FRONTEND = {"upstreams": ["upstreams/wavlm"]}


def config(**others) -> dict:
    return {"frontend": "ensemble", "frontend_conf": FRONTEND, **others}


def problems(content: dict) -> str:
    with pytest.raises(EnsembleError) as error:
        check_config(content, "config.yaml", NAMES)
    assert str(error.value).startswith("config.yaml: ")
    return str(error.value)


def test_espnet_finds_the_frontend_by_the_name_in_archives():
    assert frontend_choices.get_class(ENSEMBLE_WITH_ADVICE) is EnsembleFrontend
    assert is_ensemble({"frontend": ENSEMBLE_WITH_ADVICE})


def test_without_the_plugin_its_message_says_what_to_install(monkeypatch):
    for name in ("ensemble", ENSEMBLE_WITH_ADVICE):
        monkeypatch.delitem(frontend_choices.classes, name)
    with pytest.raises(ValueError, match="pip install espnet-ensemble; import espnet_"):
        frontend_choices.get_class(ENSEMBLE_WITH_ADVICE)


@pytest.mark.parametrize(
    "upstream",
    [
        "upstreams/wavlm",
        "microsoft/wavlm-large",
        "wavlm_large",
        {"name": "microsoft/wavlm-large", "revision": "c0ffee", "layer": [1, 2]},
        {"name": "hubert_local", "path_or_url": "upstreams/hubert.pt"},
        {"name": "hubert_url", "path_or_url": "https://example.org/hubert.pt"},
        {"name": "hubert_base", "extra_conf": {"legacy": True}},
    ],
)
def test_upstreams_of_the_archive_and_published_ones_are_taken(upstream):
    check_config(config(frontend_conf={"upstreams": [upstream]}), "c", NAMES)


@pytest.mark.parametrize(
    ("upstream", "message"),
    [
        (
            "/home/me/wavlm",
            "'/home/me/wavlm' is not in the archive; pack the model again",
        ),
        ("./wavlm", "'./wavlm' is not in the archive"),
        ("../wavlm", "'../wavlm' is not in the archive"),
        ("exp/pretrain/wavlm", "'exp/pretrain/wavlm' is not in the archive"),
        (
            {"name": "hubert_local", "path_or_url": "upstreams/other.pt"},
            "'upstreams/other.pt' is not in the archive",
        ),
        (
            {"name": "hubert_url", "path_or_url": "file:///etc/passwd"},
            "'file:///etc/passwd' is not in the archive",
        ),
        (
            {"name": "hubert_base", "extra_conf": {"ckpt": "/tmp/evil.pt"}},
            "extra_conf: expected numbers",
        ),
        ({"name": "a/b", "trust_remote_code": True}, "runs code of the hub"),
        (["a/b"], "expected a name, or a mapping with name"),
    ],
)
def test_other_upstreams_are_refused(upstream, message):
    assert message in problems(config(frontend_conf={"upstreams": [upstream]}))


@pytest.mark.parametrize("conf", [None, [], {"upstreams": "a/b"}, {"upstreams": 3}])
def test_a_frontend_without_upstreams_is_refused(conf):
    assert "frontend_conf: " in problems(config(frontend_conf=conf))


def test_a_place_for_downloads_is_refused():
    conf = {**FRONTEND, "download_dir": "/root/.ssh"}
    assert "download_dir: found '/root/.ssh'" in problems(config(frontend_conf=conf))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("frontend", "s3prl"),
        ("frontend", "fused"),
        ("frontend", "huggingface"),
        ("encoder", "whisper"),
        ("encoder", "hubert"),
        ("encoder", "os.system"),
        ("postencoder", "hugging_face_transformers"),
        ("decoder", "hugging_face_transformers"),
        ("token_type", "hugging_face"),
        ("model", {"class": "espnet"}),
        ("adapter", "houlsby"),
    ],
)
def test_classes_that_load_more_are_refused(key, value):
    message = problems(config(**{key: value}))
    assert f"{key}: expected one of" in message and repr(value) in message


def test_classes_that_may_be_chosen_are_espnets():
    """But for those that the plugin brings, and what is no class."""
    from espnet2.tasks.asr import ASRTask
    from espnet2.tasks.lm import LMTask

    choices = {c.name: c for task in (ASRTask, LMTask) for c in task.class_choices_list}
    for key in CHOICES.keys() - {"token_type", "adapter", "model"}:
        known = {*choices[key].classes, None, ENSEMBLE_WITH_ADVICE}
        assert {*CHOICES[key]} <= known, key


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"bpemodel": "/etc/passwd"}, "bpemodel: '/etc/passwd' is not in the archive"),
        ({"bpemodel": ["data/bpe.model"]}, "bpemodel: ['data/bpe.model'] is not in"),
        ({"non_linguistic_symbols": "x.txt"}, "non_linguistic_symbols: 'x.txt' is not"),
        (
            {"normalize_conf": {"stats_file": "../stats.npz"}},
            "normalize_conf.stats_file: '../stats.npz' is not in the archive",
        ),
        ({"token_list": "/etc/passwd"}, "token_list: expected a list of tokens"),
        ({"token_list": ["a", {"b": 1}]}, "token_list: expected a list of tokens"),
    ],
)
def test_files_that_are_not_in_the_archive_are_refused(others, message):
    assert message in problems(config(**others))


def test_files_of_the_archive_are_taken():
    check_config(config(bpemodel="data/bpe.model", token_list=["a"]), "c", NAMES)


def test_all_problems_are_told_at_once():
    message = problems(config(encoder="whisper", bpemodel="/etc/passwd"))
    assert len(message.splitlines()) == 2
