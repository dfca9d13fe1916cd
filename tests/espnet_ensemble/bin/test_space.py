import subprocess
import sys

import httpx2
import pytest
from noise_wav import wav

from espnet_ensemble import pretrained
from espnet_ensemble.bin import pack, space
from espnet_ensemble.serving.recordings import read_recording

pytest.importorskip("starlette", reason="the extra serve is not installed")
URL = "/v1/audio/transcriptions"


@pytest.mark.slow
def test_the_space_of_an_archive_runs_as_it_is(
    build_model, tmp_path, tiny_wavlm, tiny_hubert, capsys, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))  # where archives are unpacked
    exp = tmp_path / "asr_x"
    build_model(exp, [tiny_wavlm, tiny_hubert])
    weights = exp / "valid.ave_2best.pth"
    options = ["--asr_train_config", str(exp / "config.yaml")]
    options += ["--asr_model_file", str(weights)]
    pack.main(["asr", *options, "--outpath", str(tmp_path / "model.zip")])
    capsys.readouterr()
    space.main([str(tmp_path / "model.zip"), str(tmp_path / "space")])
    names = ["app.py", "README.md", "requirements.txt", "model.zip"]
    told = [f"{tmp_path / 'space' / name}\n" for name in names]
    assert capsys.readouterr().out == "".join(told)
    (tmp_path / "model.zip").unlink()

    monkeypatch.setenv("PORT", "0")
    app = [sys.executable, str(tmp_path / "space" / "app.py")]
    server = subprocess.Popen(app, stdout=subprocess.PIPE, text=True)
    try:
        url = next(x for x in server.stdout if x.startswith("http")).split()[0]
        assert url.startswith("http://127.0.0.1:")
        answer = httpx2.post(url + URL, files={"file": wav(1.0)}, timeout=60).json()
    finally:
        server.kill()
        server.stdout.close()
        server.wait()
    (expected,) = pretrained(exp, device="cpu").transcribe(
        [read_recording(wav(1.0), 16000)]
    )
    assert answer["text"] == expected.text
