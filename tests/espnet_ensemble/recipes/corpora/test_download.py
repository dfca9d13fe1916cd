"""Downloads from a server that breaks off, refuses or lies; archives that are not nice."""

import hashlib
import io
import tarfile

import pytest

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.corpora.download import (
    download,
    download_folder,
    find_corpus,
    unpack,
)

CONTENT = bytes(range(256)) * 400
CHECKSUM = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@pytest.fixture
def get(server, tmp_path):
    """Download CONTENT: get() -> the file."""
    (server.folder / "a.tar.gz").write_bytes(CONTENT)

    def call(checksum=CHECKSUM):
        path = tmp_path / "downloads" / "a.tar.gz"
        download(f"{server.url}/a.tar.gz", path, checksum)
        return path

    return call


def ranges(server):
    return [asked for _, asked in server.requests]


def test_file_is_downloaded_once(get, server):
    assert get().read_bytes() == CONTENT
    get()
    assert ranges(server) == ["bytes=0-"]
    assert [path.name for path in get().parent.iterdir()] == ["a.tar.gz"]


def test_broken_connection_is_taken_up_again(get, server):
    server.breaks_after = 40000
    assert get().read_bytes() == CONTENT
    assert ranges(server) == ["bytes=0-", "bytes=40000-", "bytes=80000-"]


def test_another_run_goes_on(get, server, tmp_path):
    server.breaks_after = 0
    part = tmp_path / "downloads" / "a.tar.gz.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT[:70000])
    with pytest.raises(EnsembleError) as error:
        get()
    assert f"broke at 70000 of 102400 bytes; {part} has 70000 bytes" in str(error.value)
    server.breaks_after = None
    assert get().read_bytes() == CONTENT
    assert ranges(server) == ["bytes=70000-", "bytes=70000-"]


def test_server_that_cannot_resume_starts_anew(get, server, tmp_path):
    server.resumes = False
    part = tmp_path / "downloads" / "a.tar.gz.part"
    part.parent.mkdir()
    part.write_bytes(b"?" * 70000)
    assert get().read_bytes() == CONTENT


def test_complete_part_only_lacks_its_name(get, tmp_path):
    part = tmp_path / "downloads" / "a.tar.gz.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT)
    assert get().read_bytes() == CONTENT
    assert not part.exists()


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_wrong_checksum(get, server, tmp_path, algorithm):
    found = hashlib.new(algorithm, CONTENT).hexdigest()
    with pytest.raises(EnsembleError) as error:
        get(f"{algorithm}:0123")
    assert f"{server.url}/a.tar.gz: expected {algorithm}:0123, found" in str(
        error.value
    )
    assert found in str(error.value)
    assert list((tmp_path / "downloads").iterdir()) == []
    get(f"{algorithm}:{found}")


def test_no_such_file(get, server, tmp_path):
    (server.folder / "a.tar.gz").unlink()
    with pytest.raises(EnsembleError, match="a.tar.gz: .* 404"):
        get()
    assert len(server.requests) == 1


def test_no_server(tmp_path):
    with pytest.raises(EnsembleError, match="127.0.0.1:9/a: "):
        download("http://127.0.0.1:9/a", tmp_path / "a", CHECKSUM)


def make_archive(path, members, kind=tarfile.REGTYPE, linkname=""):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, linkname, len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_unpack_keeps_what_is_there(tmp_path):
    (tmp_path / "L" / "one").mkdir(parents=True)
    (tmp_path / "L" / "one" / "a").write_text("first")
    leftover = tmp_path / "L" / ".two.0a1b2c3d.tmp"
    leftover.mkdir()
    (leftover / "half").write_text("of an earlier run")
    members = {"L/LICENSE.TXT": b"CC", "L/two/b/c": b"second", "L/three/d": b"no"}
    archive = make_archive(tmp_path / "two.tgz", members)
    unpack(archive, tmp_path, "L/two")
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {"two.tgz", "L/LICENSE.TXT", "L/one/a", "L/two/b/c"}
    assert (tmp_path / "L/two/b/c").read_text() == "second"


@pytest.mark.parametrize(
    ("name", "kind", "linkname"),
    [
        ("../escaped", tarfile.REGTYPE, ""),
        ("L/../../escaped", tarfile.REGTYPE, ""),
        ("L/escaped", tarfile.SYMTYPE, "../../../etc"),
        ("L/escaped", tarfile.SYMTYPE, "/etc"),
        ("L/escaped", tarfile.LNKTYPE, "../../outside"),
        ("L/escaped", tarfile.CHRTYPE, ""),
    ],
)
def test_members_do_not_leave_the_folder(tmp_path, name, kind, linkname):
    folder = tmp_path / "downloads"
    folder.mkdir()
    archive = make_archive(folder / "bad.tgz", {name: b""}, kind, linkname)
    with pytest.raises(EnsembleError, match="bad.tgz: refused: .*esc"):
        unpack(archive, folder, "L")
    left = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert left <= {"bad.tgz", "L"} and [*tmp_path.iterdir()] == [folder]


def test_damaged_archives(tmp_path):
    archive = make_archive(tmp_path / "a.tgz", {"L/one": bytes(range(256)) * 999})
    content = archive.read_bytes()
    damaged = content[: len(content) // 2], b"<html>Not here</html>", b"", content[:-6]
    for number, part in enumerate(damaged):
        path = tmp_path / f"{number}.tgz"
        path.write_bytes(part)
        with pytest.raises(
            EnsembleError, match=rf"{number}.tgz: (damaged|expected a folder)"
        ):
            unpack(path, tmp_path / "out", "L/one")
    with pytest.raises(
        EnsembleError, match="a.tgz: expected a folder L/two, found none"
    ):
        unpack(archive, tmp_path / "out", "L/two")
    assert {path.name for path in (tmp_path / "out").rglob("*")} == {"L"}


def test_folder_is_had_once_and_its_archive_goes(server, tmp_path):
    archive = make_archive(server.folder / "one.tgz", {"L/one/a": b"first"})
    checksum = f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}"
    for _ in range(2):
        download_folder(f"{server.url}/one.tgz", checksum, tmp_path / "out", "L/one")
    assert len(server.requests) == 1
    left = {str(p.relative_to(tmp_path / "out")) for p in tmp_path.glob("out/**/*")}
    assert left == {"L", "L/one", "L/one/a"}


def test_corpus_is_where_it_is_said_to_be(tmp_path):
    (tmp_path / "L" / "one" / "two").mkdir(parents=True)
    assert find_corpus("--l", f"{tmp_path}/L", "L", ["one"]) == tmp_path / "L"
    assert str(find_corpus("--l", "downloads", "L", ["one"])) == "downloads/L"


@pytest.mark.parametrize(
    "value, message",
    [
        ("", "--l: expected the folder L, or 'downloads' to get it, found nothing"),
        ("nowhere", "nowhere/one: expected this folder, found none$"),
        (".", "^one: expected this folder, found none; it is in L: give that folder$"),
        ("L/one", "L/one/one: expected .*; it is in {}/L: give that folder$"),
        ("L/none", "L/none/one: expected this folder, found none$"),
    ],
)
def test_corpus_is_not_there(tmp_path, monkeypatch, value, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "L" / "one").mkdir(parents=True)
    with pytest.raises(EnsembleError, match=message.format(tmp_path)):
        find_corpus("--l", value, "L", ["one"])
