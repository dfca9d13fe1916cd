"""Downloads from a server that breaks off, refuses or lies; archives that are not nice."""

import hashlib
import io
import tarfile

import pytest

CONTENT = bytes(range(256)) * 400
CHECKSUM = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@pytest.fixture
def get(local, server, tmp_path):
    """Download CONTENT: get() -> the file."""
    (server.folder / "a.tar.gz").write_bytes(CONTENT)

    def call(checksum=CHECKSUM):
        path = tmp_path / "downloads" / "a.tar.gz"
        local("download").download(f"{server.url}/a.tar.gz", path, checksum)
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


def test_another_run_goes_on(local, get, server, tmp_path):
    server.breaks_after = 0
    part = tmp_path / "downloads" / "a.tar.gz.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT[:70000])
    with pytest.raises(local("download").DownloadError) as error:
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
def test_wrong_checksum(local, get, server, tmp_path, algorithm):
    found = hashlib.new(algorithm, CONTENT).hexdigest()
    with pytest.raises(local("download").DownloadError) as error:
        get(f"{algorithm}:0123")
    assert f"{server.url}/a.tar.gz: expected {algorithm}:0123, found" in str(
        error.value
    )
    assert found in str(error.value)
    assert list((tmp_path / "downloads").iterdir()) == []
    get(f"{algorithm}:{found}")


def test_no_such_file(local, get, server, tmp_path):
    (server.folder / "a.tar.gz").unlink()
    with pytest.raises(local("download").DownloadError, match="a.tar.gz: .* 404"):
        get()
    assert len(server.requests) == 1


def test_no_server(local, tmp_path):
    with pytest.raises(local("download").DownloadError, match="127.0.0.1:9/a: "):
        local("download").download("http://127.0.0.1:9/a", tmp_path / "a", CHECKSUM)


def make_archive(path, members, kind=tarfile.REGTYPE, linkname=""):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, linkname, len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_unpack_keeps_what_is_there(local, tmp_path):
    (tmp_path / "L" / "one").mkdir(parents=True)
    (tmp_path / "L" / "one" / "a").write_text("first")
    leftover = tmp_path / ".two.tgz.tmp" / "L" / "two"
    leftover.mkdir(parents=True)
    (leftover / "half").write_text("of an earlier run")
    members = {"L/LICENSE.TXT": b"CC", "L/two/b/c": b"second", "L/three/d": b"no"}
    archive = make_archive(tmp_path / "two.tgz", members)
    local("download").unpack(archive, tmp_path, "L/two")
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
def test_members_do_not_leave_the_folder(local, tmp_path, name, kind, linkname):
    folder = tmp_path / "downloads"
    folder.mkdir()
    archive = make_archive(folder / "bad.tgz", {name: b""}, kind, linkname)
    with pytest.raises(
        local("download").DownloadError, match="bad.tgz: refused: .*esc"
    ):
        local("download").unpack(archive, folder, "L")
    assert [path.name for path in tmp_path.rglob("*")] == ["downloads", "bad.tgz"]


def test_damaged_archives(local, tmp_path):
    unpack, error = local("download").unpack, local("download").DownloadError
    archive = make_archive(tmp_path / "a.tgz", {"L/one": bytes(range(256)) * 999})
    content = archive.read_bytes()
    damaged = content[: len(content) // 2], b"<html>Not here</html>", b"", content[:-6]
    for number, part in enumerate(damaged):
        path = tmp_path / f"{number}.tgz"
        path.write_bytes(part)
        with pytest.raises(error, match=rf"{number}.tgz: (damaged|expected a folder)"):
            unpack(path, tmp_path / "out", "L/one")
    with pytest.raises(error, match="a.tgz: expected a folder L/two, found none"):
        unpack(archive, tmp_path / "out", "L/two")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
