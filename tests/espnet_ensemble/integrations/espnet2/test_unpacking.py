"""Archives that could do harm are refused before ESPnet unpacks them."""

import io
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from espnet2.main_funcs.pack_funcs import unpack

import espnet_ensemble  # noqa: F401
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.integrations.espnet2 import archive as archives
from espnet_ensemble.integrations.espnet2.archive import check_archive

META = yaml.safe_dump({"yaml_files": {}, "files": {"asr_model_file": "model.pth"}})
GOOD = {"meta.yaml": META.encode(), "model.pth": b"weights", "a/b.txt": b"text"}


def write_zip(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def write_tar(path, entries, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


FORMATS = {"zip": write_zip, "tgz": write_tar}


@pytest.fixture(params=FORMATS)
def write(request, tmp_path):
    """Write an archive: write([(name, content), ...]) -> path."""
    name = f"model.{request.param}"
    return lambda entries: FORMATS[request.param](tmp_path / name, entries)


def refuses(path, reason, tmp_path):
    there = tmp_path / "there" / "unpacked"
    with pytest.raises(
        EnsembleError, match=f"refused, nothing was unpacked: .*{reason}"
    ):
        unpack(path, there)
    assert not there.parent.exists()


def test_what_espnet_packs_is_unpacked(write, tmp_path):
    path = write(GOOD.items())
    unpacked = unpack(path, tmp_path / "unpacked")
    assert Path(unpacked["asr_model_file"]).read_bytes() == b"weights"


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/tmp/evil", "a\\..\\evil"]
)
def test_an_entry_that_would_be_written_elsewhere(name, write, tmp_path):
    refuses(write([*GOOD.items(), (name, b"")]), "would be written outside", tmp_path)


def test_links_and_devices_in_a_tar(tmp_path):
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        path = write_tar(tmp_path / "model.tar", GOOD.items(), "w")
        with tarfile.open(path, "a") as archive:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = kind, "/etc/hostname"
            archive.addfile(info)
        refuses(path, "'link' is a link or a device", tmp_path)


def test_link_in_a_zip(tmp_path):
    path = write_zip(tmp_path / "model.zip", GOOD.items())
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/hostname")
    refuses(path, "'link' is a link or a device", tmp_path)


def test_many_entries(write, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_ENTRIES", 100)
    entries = [(f"{number}", b"") for number in range(100)]
    refuses(write([*GOOD.items(), *entries]), "at most 100 entries", tmp_path)


def test_large_entries(write, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SMALL", 1 << 20)
    entries = [(f"{number}", bytes(1 << 20)) for number in range(4)]
    path = write([*GOOD.items(), *entries])
    assert path.stat().st_size < 1 << 15
    refuses(path, "bytes, found more", tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_one_name_twice(write, tmp_path):
    path = write([*GOOD.items(), ("model.pth", b"other")])
    refuses(path, "'model.pth' is there twice", tmp_path)


def test_file_over_a_folder(write, tmp_path):
    refuses(write([*GOOD.items(), ("a", b"")]), "'a' is a file and a folder", tmp_path)


def test_a_file_where_there_is_a_folder(write, tmp_path):
    (tmp_path / "there" / "model.pth").mkdir(parents=True)
    path, message = (
        write(GOOD.items()),
        "model.pth is a folder, and in the archive a file",
    )
    with pytest.raises(EnsembleError, match=message):
        unpack(path, tmp_path / "there")
    assert not (tmp_path / "there" / "meta.yaml").exists()


def test_a_folder_where_there_is_a_file(write, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a").touch()
    path, message = write(GOOD.items()), "a is a file, and in the archive a folder"
    with pytest.raises(EnsembleError, match=message):
        unpack(input_archive=path, outpath=tmp_path / "there")
    assert not (tmp_path / "there" / "meta.yaml").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(50)])
def test_what_is_no_archive(content, tmp_path):
    path = tmp_path / "model.zip"
    path.write_bytes(content)
    with pytest.raises(EnsembleError, match="expected an archive"):
        check_archive(path)


def test_names_that_differ_in_case_or_in_accents_only(write, tmp_path):
    for name in ("Model.pth", "A/c.txt"):
        refuses(write([*GOOD.items(), (name, b"")]), "differ in case only", tmp_path)
    accents = [("caf\u00e9", b""), ("cafe\u0301", b"")]
    refuses(write([*GOOD.items(), *accents]), "differ in case only", tmp_path)


def test_names_that_no_file_system_takes(write, tmp_path):
    refuses(write([*GOOD.items(), ("a" * 300, b"")]), "is too long a name", tmp_path)
    refuses(write([*GOOD.items(), ("a\x1b[2J", b"")]), "cannot be printed", tmp_path)


def test_a_tar_that_is_a_zip_too(tmp_path):
    """Its name says how ESPnet reads it, so that is how it is checked."""
    path = write_tar(tmp_path / "model.tar", [*GOOD.items(), ("../evil", b"")], "w")
    harmless = write_zip(tmp_path / "harmless.zip", GOOD.items())
    with open(path, "ab") as file:
        file.write(harmless.read_bytes())
    assert zipfile.is_zipfile(path)
    refuses(path, "would be written outside", tmp_path)


def test_a_header_that_would_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_HEADER", 1 << 12)
    path = tmp_path / "model.tgz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("model.pth")
        info.pax_headers = {"comment": "0" * (1 << 13)}
        archive.addfile(info)
    with pytest.raises(EnsembleError, match="a header of 8206 bytes"):
        unpack(path, tmp_path / "there")


def test_an_encrypted_archive(tmp_path):
    path = write_zip(tmp_path / "model.zip", GOOD.items())
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(EnsembleError, match="'meta.yaml', which is encrypted"):
        unpack(path, tmp_path / "there")


def test_what_failed_half_way_does_not_count_as_unpacked(tmp_path):
    path = write_zip(tmp_path / "model.zip", GOOD.items())
    content = bytearray(path.read_bytes())
    name = content.index(b"a/b.txt")
    content[name + len(b"a/b.txt")] ^= 255  # its compressed content
    path.write_bytes(content)
    with pytest.raises(EnsembleError, match=r"model\.zip: damaged: "):
        unpack(path, tmp_path / "there")
    assert not (tmp_path / "there" / "meta.yaml").exists()


def test_espnets_downloader_checks_also_if_it_was_imported_before():
    program = (
        "from espnet_model_zoo import downloader; before = downloader.unpack; "
        "import espnet_ensemble; from espnet2.main_funcs import pack_funcs; "
        "assert downloader.unpack is pack_funcs.unpack is not before"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
