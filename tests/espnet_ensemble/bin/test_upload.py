"""Uploading, to a stand-in for the Hugging Face hub on the loopback."""

import base64
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml

from espnet_ensemble.bin.upload import main
from espnet_ensemble.recipes import publishing
from espnet_ensemble.recipes.publishing import pack_with_card

FILES = [
    "README.md",
    "ensemble.yaml",
    "exp/asr/config.yaml",
    "exp/asr/valid.pth",
    "meta.yaml",
]


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A packed model over a published upstream."""
    monkeypatch.chdir(tmp_path)
    exp = Path("exp/asr")
    exp.mkdir(parents=True)
    torch.save({}, exp / "valid.pth")
    conf = {"frontend": "ensemble", "frontend_conf": {"upstreams": ["wavlm_base"]}}
    (exp / "config.yaml").write_text(yaml.safe_dump(conf))
    configs = {"asr_train_config": exp / "config.yaml"}
    pack_with_card(configs, {"asr_model_file": exp / "valid.pth"}, [], "model.zip")
    return "model.zip"


class Hub(BaseHTTPRequestHandler):
    """Takes small files as the hub does, or nobody's."""

    uploaded: dict[str, bytes]
    created: list[str]
    status = 200

    def do_GET(self):
        self._answer({})

    def do_POST(self):
        length = self.headers.get("Content-Length")
        body = self.rfile.read(int(length)) if length else self._chunks()
        if self.path == "/api/repos/create":
            self.created.append(json.loads(body)["name"])
            self._answer({"url": "https://huggingface.co/user/model"})
        elif "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": p, "uploadMode": "regular"} for p in paths]
            self._answer({"files": [{**m, "shouldIgnore": False} for m in modes]})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        else:
            for line in body.decode().splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    value = item["value"]
                    self.uploaded[value["path"]] = base64.b64decode(value["content"])
            commit = {"commitUrl": "https://huggingface.co/user/model/commit/c0ffee"}
            self._answer({**commit, "commitOid": "c0ffee"})

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, content):
        body = json.dumps(content).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch):
    """The stand-in, which every HfApi of the test talks to."""
    handler = type("Handler", (Hub,), {"uploaded": {}, "created": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    real = publishing.HfApi
    monkeypatch.setattr(publishing, "HfApi", lambda: real(endpoint, token="hf_x"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_dry_run_shows_what_would_be_uploaded(archive, hub, capsys):
    main([archive, "user/model", "--dry_run"])
    out = capsys.readouterr().out
    listing, _, card = out.partition("\nREADME.md:\n\n")
    *files, total = listing.splitlines()
    assert [line.split()[1] for line in files] == FILES
    sizes = [int(line.split()[0]) for line in files]
    assert total == (
        "would be uploaded to https://huggingface.co/user/model: 5 files, "
        f"{sum(sizes)} bytes"
    )
    assert len(card.encode()) == sizes[0]
    assert "transcribe user/model recording.wav" in card and "model.zip" not in card
    assert not hub.created and not hub.uploaded


def test_what_the_dry_run_shows_is_uploaded(archive, hub, capsys):
    main([archive, "user/model", "--dry_run"])
    _, _, card = capsys.readouterr().out.partition("\nREADME.md:\n\n")
    main([archive, "user/model"])
    assert "uploaded to https://huggingface.co/user/model" in capsys.readouterr().out
    assert hub.created == ["model"]
    assert sorted(hub.uploaded) == FILES
    assert hub.uploaded["README.md"].decode() == card
    with zipfile.ZipFile(archive) as file:
        for name in FILES[1:]:
            assert hub.uploaded[name] == file.read(name)


def test_a_hub_that_refuses_says_how_to_log_in(archive, hub, capsys):
    hub.status = 401
    with pytest.raises(SystemExit, match="1"):
        main([archive, "user/model"])
    err = capsys.readouterr().err
    assert err.startswith("upload: user/model: ") and "hf auth login" in err


def test_a_hub_that_is_not_reached(archive, monkeypatch, capsys):
    real = publishing.HfApi
    monkeypatch.setattr(publishing, "HfApi", lambda: real("http://127.0.0.1:1"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(SystemExit, match="1"):
        main([archive, "user/model"])
    assert "upload: user/model: " in capsys.readouterr().err


def test_an_archive_without_a_card(archive, capsys):
    with (
        zipfile.ZipFile(archive) as file,
        zipfile.ZipFile("other.zip", "w") as other,
    ):
        for name in FILES[1:]:
            other.writestr(name, file.read(name))
    with pytest.raises(SystemExit, match="1"):
        main(["other.zip", "user/model", "--dry_run"])
    assert "expected README.md, the model card, found none" in capsys.readouterr().err


def test_an_archive_that_is_not_there(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main([str(tmp_path / "model.zip"), "user/model"])
    assert "model.zip" in capsys.readouterr().err
