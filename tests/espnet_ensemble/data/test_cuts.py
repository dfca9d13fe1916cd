import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_ensemble.data.audio import AudioConf
from espnet_ensemble.data.cuts import Cut, FailedUtterance, Recording, write_cuts
from espnet_ensemble.data.tables import Segment

CONF = AudioConf(fs=8000)


@pytest.fixture
def recordings(tmp_path):
    """A recording of two cuts, one of them faster, and one that is not there."""
    samples = np.random.default_rng(0).normal(0, 0.1, 8000)
    soundfile.write(tmp_path / "r.wav", samples, 8000)
    cuts = (
        Cut("a", Segment("r", 0, 0.5)),
        Cut("sp2-b", Segment("r", 0.5), Fraction(2)),
    )
    gone = Recording(f"{tmp_path}/gone.wav", (Cut("c", Segment("gone")),))
    return [Recording(f"{tmp_path}/r.wav", cuts), gone]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "dump" / "data"


def change_record(folder, change):
    """Replace the record's lines by change(lines)."""
    record = folder / "record"
    lines = record.read_text(encoding="utf-8").splitlines()
    record.write_text("".join(f"{line}\n" for line in change(lines)), encoding="utf-8")


def cut(folder, recordings, **options):
    """Write cuts: what was made, by its id, and what was not."""
    written = write_cuts(folder, recordings, CONF, **options)
    files = {file.utt_id: file for file in written.files()}
    assert len(files) == written.size
    return files, written.failures


def overwrite(files):
    """Change the samples of files, but not their sizes."""
    for file in files.values():
        Path(file.path).write_bytes(bytes(file.num_bytes))


def test_each_cut_is_a_file_or_a_failure(recordings, folder, tmp_path):
    files, failures = cut(folder, recordings)
    assert failures == [FailedUtterance("c", f"{tmp_path}/gone.wav", "no such file")]
    assert {utt_id: file.num_samples for utt_id, file in files.items()} == {
        "a": 4000,
        "sp2-b": 2000,
    }
    for utt_id, file in files.items():
        path = Path(file.path)
        assert (file.utt_id, path.stem, path.suffix) == (utt_id, utt_id, ".flac")
        assert path.parents[1] == folder
        assert path.stat().st_size == file.num_bytes
        assert soundfile.info(path).frames == file.num_samples


def test_the_record_tells_what_is_finished(recordings, folder):
    written = cut(folder, recordings)
    lines = (folder / "record").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["utt_id"] for line in lines] == ["a", "sp2-b"]
    overwrite(written[0])
    assert cut(folder, recordings) == written
    assert not any(Path(f.path).read_bytes().strip(b"\0") for f in written[0].values())


def test_of_two_lines_the_last_counts(recordings, folder):
    """As a killed run leaves them, that made something anew."""
    files, _ = cut(folder, recordings)
    lines = (folder / "record").read_text(encoding="utf-8")
    change_record(
        folder,
        lambda lines: (
            [line.replace('digest": "', 'digest": "x') for line in lines] + lines
        ),
    )
    overwrite(files)
    assert cut(folder, recordings)[0] == files
    assert (folder / "record").read_text(encoding="utf-8") == lines
    assert not any(Path(f.path).read_bytes().strip(b"\0") for f in files.values())


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [line[:-10] for line in lines],
        lambda lines: ["", "[]", "1", "{}", '{"utt_id": "a"}'],
        # As version 0.1 wrote it.
        lambda lines: ["a 2cf2 4000 5000 dump/data/43/a.flac"],
        lambda lines: [],
    ],
)
def test_what_the_record_does_not_tell_is_made_anew(change, recordings, folder):
    written = cut(folder, recordings)
    before = {utt: Path(f.path).read_bytes() for utt, f in written[0].items()}
    change_record(folder, change)
    overwrite(written[0])
    assert cut(folder, recordings) == written
    for utt_id, file in written[0].items():
        assert Path(file.path).read_bytes() == before[utt_id]


def test_an_id_may_have_any_letter_but_a_slash(recordings, folder):
    entry = recordings[0].entry
    names = ['a "b"', "ä日", "x y"]
    cuts = tuple(Cut(name, Segment("r")) for name in [*names, "x/y"])
    files, failures = cut(folder, [Recording(entry, cuts)])
    assert set(files) == set(names)
    assert [failed.utt_id for failed in failures] == ["x/y"]
    assert cut(folder, [Recording(entry, cuts)]) == (files, failures)


def test_a_failure_names_the_times_of_a_part(recordings, folder):
    entry = recordings[0].entry
    cuts = (Cut("a", Segment("r", 2, 3)), Cut("b", Segment("r", 7)))
    _, failures = cut(folder, [Recording(entry, cuts)], nj=2)
    sources = [f"{entry} from 2 s to 3 s", f"{entry} from 7 s"]
    assert [failed.source for failed in failures] == sources
    assert str(failures[0]).startswith(f"a: {sources[0]}: expected audio from")


@pytest.mark.parametrize(
    "part,expected",
    [
        (Cut("a", Segment("r")), True),
        (Cut("a", Segment("r"), Fraction(11, 10)), False),
        (Cut("a", Segment("r", 0.5)), False),
        (Cut("a", Segment("r", 0, 1)), False),
    ],
)
def test_whole(part, expected):
    assert part.is_whole == expected
