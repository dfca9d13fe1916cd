"""A small data directory, as text files, for the tests of data directories."""

import pytest

FILES = {
    "text": "a1 HELLO\na2 WORLD\nb1 ÄÖ Ü\n",
    "utt2spk": "a1 alice\na2 alice\nb1 bob\n",
    "spk2utt": "alice a1 a2\nbob b1\n",
    "spk2gender": "alice f\nbob m\n",
    "wav.scp": "a1 /x/a 1.wav\na2 sph2pipe /x/a2.sph |\nb1 /x/b1.wav\n",
    "feats_type": "raw\n",
}
SEGMENTED = {
    **FILES,
    "segments": "a1 one 0 1.5\na2 one 1.5 -1\nb1 two 0.25 3\n",
    "wav.scp": "one /x/one.wav\ntwo /x/two.wav\n",
}


@pytest.fixture
def files():
    """What a valid directory has, by name: change it and `write_files`."""
    return dict(FILES)


@pytest.fixture
def segmented():
    """The same, with segments."""
    return dict(SEGMENTED)


@pytest.fixture
def write_files(tmp_path):
    """write_files(files, name) -> the directory that has them."""

    def write_files(files, name="train"):
        folder = tmp_path / name
        folder.mkdir()
        for file, content in files.items():
            if isinstance(content, str):
                content = content.encode("utf-8")
            (folder / file).write_bytes(content)
        return folder

    return write_files
