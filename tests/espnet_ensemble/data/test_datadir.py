import random
import re
import tracemalloc

import pytest

from espnet_ensemble.data import streams
from espnet_ensemble.data.datadir import (
    check,
    combine,
    fix,
    segments_of,
    split,
    subset,
    validate,
    write,
)
from espnet_ensemble.data.length import filter_lengths
from espnet_ensemble.data.tables import DataError, Segment, read_table


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_valid(files, segmented, write_files):
    tables = validate(write_files(files))
    assert tables["text"] == {"a1": "HELLO", "a2": "WORLD", "b1": "ÄÖ Ü"}
    assert tables["wav.scp"]["a1"] == "/x/a 1.wav"
    assert validate(write_files(segmented, "seg"))["wav.scp"]["two"] == "/x/two.wav"


def test_written_is_what_was_read(segmented, write_files, tmp_path):
    source = write_files(segmented)
    write(tmp_path / "copy", validate(source))
    segmented.pop("feats_type")
    assert contents(tmp_path / "copy") == segmented


def test_text_may_be_empty_or_not_needed(files, write_files):
    validate(write_files({**files, "text": "a1\na2 \nb1 X\n"}))
    del files["text"]
    folder = write_files(files, "no_text")
    assert "text" not in validate(folder, need_text=False)
    with pytest.raises(DataError, match="no_text/text: expected this file, found none"):
        validate(folder)


def test_features_instead_of_audio(files, write_files):
    files["feats.scp"] = files.pop("wav.scp")
    folder = write_files(files)
    assert "feats.scp" in validate(folder)
    with pytest.raises(
        DataError, match="train/wav.scp: expected this file, found none"
    ):
        validate(folder, required=["wav.scp"])


def test_required_files(files, write_files):
    folder = write_files(files)
    assert "spk2gender" in validate(folder, required=["wav.scp", "spk2gender"])
    message = "utt2num_samples: expected this file, found none; format_wav_scp makes it"
    with pytest.raises(DataError, match=message):
        validate(folder, required=["utt2num_samples"])


def test_an_utterance_is_a_segment_or_a_recording(files, segmented, write_files):
    tables = validate(write_files(segmented))
    assert segments_of(tables, ["a2", "b1"]) == {
        "a2": Segment("one", 1.5),
        "b1": Segment("two", 0.25, 3),
    }
    tables = validate(write_files(files, "whole"))
    assert segments_of(tables, ["a2"]) == {"a2": Segment("a2")}


@pytest.mark.parametrize(
    "changed,message",
    [
        ({"wav.scp": None}, "wav.scp: expected this file, found none"),
        ({"utt2spk": None}, "utt2spk: expected this file, found none"),
        (
            {"spk2utt": None},
            "spk2utt: expected a file, found No such file or directory",
        ),
        (
            {"utt2spk": "", "spk2utt": ""},
            "utt2spk: expected utterances, found none",
        ),
        (
            {"text": "a1 X\nb1 X\na2 X\n"},
            "text:3: 'a2': expected C-locale order (LC_ALL=C sort), found it after 'b1'",
        ),
        (
            {"utt2spk": "a1 alice\na2\nb1 bob\n"},
            "utt2spk:2: 'a2': expected a value, found none",
        ),
        (
            {"utt2spk": "a1 alice\na2 al ice\nb1 bob\n"},
            "utt2spk:2: 'a2': expected one speaker, found 'al ice'",
        ),
        (
            {"wav.scp": "a1 x\na2 x\n"},
            "wav.scp: expected every recording of utt2spk, found no 'b1'",
        ),
        (
            {"text": "b1 X\n"},
            "text: expected every utterance of utt2spk, found no 'a1' and 1 more",
        ),
        (
            {"text": "a1 X\na2 X\na3 X\nb1 X\nb2 X\n"},
            "text:3: 'a3': expected only what utt2spk has, found utterance 'a3' and 1 more",
        ),
        (
            {"spk2gender": "alice f\n"},
            "spk2gender: expected every speaker of utt2spk, found no 'bob'",
        ),
        (
            {"spk2utt": "alice a1 a2\nbob b1\ncarl c1\n"},
            "spk2utt:3: 'carl': expected only what utt2spk has, found speaker 'carl'",
        ),
        (
            {"spk2utt": "alice a1\nbob a2 b1\n"},
            "spk2utt:1: 'alice': expected the utterances that utt2spk gives this "
            "speaker, found a difference at 'a2'",
        ),
        (
            {"spk2utt": "bob b1\nalice a1 a2\n"},
            "spk2utt:2: 'alice': expected C-locale order",
        ),
        (
            {"utt2num_samples": "a1 10\na2 1.5\nb1 2\n"},
            "utt2num_samples:2: 'a2': expected a number of samples, found '1.5'",
        ),
        (
            {"segments": "a1 one 0 1\na2 one 2 1\nb1 two 0 1\n"},
            "segments:2: 'a2': expected a recording, its start and its end in seconds",
        ),
        (
            {"segments": "a1 one 0 1\nb1 two 0 1\n"},
            "segments: expected every utterance of utt2spk, found no 'a2'",
        ),
        (
            {"wav.scp": "one x\n", "segments": "a1 one 0 1\na2 one 2 3\nb1 two 0 1\n"},
            "wav.scp: expected every recording of segments, found no 'two'",
        ),
        (
            {"segments": "a1 one 0 1\na2 one 2 3\nb1 one 0 1\n"},
            "wav.scp:1: 'a1': expected only what segments has, found recording 'a1' and 2 more",
        ),
    ],
)
def test_invalid(changed, message, files, write_files):
    files.update(changed)
    folder = write_files(
        {name: text for name, text in files.items() if text is not None}
    )
    with pytest.raises(DataError, match=re.escape(f"{folder}/{message}")):
        validate(folder)


def test_no_directory(tmp_path):
    with pytest.raises(DataError, match="/x: expected a data directory, found none"):
        validate(tmp_path / "x")


def test_fix_sorts_and_keeps_what_all_files_have(files, write_files):
    files["text"] = "b1 X\n\na1 X\na1 X\na3 X\na2 \n"
    files["wav.scp"] = "b1 x\na1\na2 x\n"
    del files["spk2utt"]
    folder = write_files(files)
    assert fix(folder) == {"a1": ["wav.scp"], "a3": ["utt2spk", "wav.scp"]}
    assert set(validate(folder)["utt2spk"]) == {"a2", "b1"}
    assert (folder / "text").read_text() == "a2\nb1 X\n"
    assert (folder / "spk2gender").read_text() == files["spk2gender"]
    assert (folder / ".backup" / "text").read_text() == files["text"]
    assert {path.name for path in (folder / ".backup").iterdir()} == {
        *("text", "utt2spk", "wav.scp")
    }
    before = contents(folder)
    assert fix(folder) == {}
    assert contents(folder) == before
    assert (folder / ".backup" / "text").read_text() == files["text"]


def test_fix_with_segments(segmented, write_files):
    segmented["wav.scp"] = "zero /x/0.wav\none /x/one.wav\n"
    folder = write_files(segmented)
    assert fix(folder) == {"b1": ["wav.scp"]}
    assert validate(folder)["wav.scp"] == {"one": "/x/one.wav"}
    assert read_table(folder / "spk2gender") == {"alice": "f"}


def test_fix_drops_what_a_file_of_speakers_or_recordings_lacks(segmented, write_files):
    segmented["spk2gender"] = "alice f\n"
    segmented["reco2dur"] = "one 9.5\n"
    folder = write_files(segmented)
    assert fix(folder) == {"b1": ["spk2gender", "reco2dur"]}
    assert set(validate(folder)["utt2spk"]) == {"a1", "a2"}


@pytest.mark.parametrize("seed", range(150))
def test_what_is_fixed_is_valid(seed, files, segmented, write_files, monkeypatch):
    """However it was damaged; what cannot be fixed is refused."""
    rng = random.Random(seed)
    if seed % 3 == 0:
        monkeypatch.setattr(streams, "_IN_MEMORY", 2)
    files = segmented if seed % 2 else files
    files["utt2num_samples"] = "a1 160\na2 320\nb1 480\n"
    if seed % 2:
        files["reco2dur"] = "one 9.5\ntwo 9.5\n"
    for _ in range(rng.randint(1, 4)):
        name = rng.choice(sorted(files))
        lines = files[name].splitlines()
        line = rng.choice(lines or [""])
        damaged = [line.split(" ")[0], f"{line} x", "z 1", "", f"{line}\n{line}"]
        lines = [rng.choice(damaged) if w == line else w for w in lines]
        rng.shuffle(lines)
        files[name] = "\n".join(lines[rng.randint(0, 1) :]) + "\n"
    folder = write_files(files)
    try:
        fix(folder)
    except DataError:
        return
    validate(folder)


def test_fix_makes_utt2spk_of_spk2utt(files, write_files):
    expected = files.pop("utt2spk")
    folder = write_files(files)
    assert fix(folder) == {}
    assert (folder / "utt2spk").read_text() == expected


@pytest.mark.parametrize(
    "changed,message",
    [
        (
            {"text": "a1 X\na1 Y\n"},
            "/text:2: expected one value for 'a1', found 'Y' and before it 'X'",
        ),
        ({"text": b"a1 \xff\n"}, "/text:1: expected UTF-8, found b'a1 \\xff'"),
        (
            {"text": "c X\n"},
            ": no utterance is in all files (text 1, utt2spk 3, spk2gender 2, wav.scp 3)",
        ),
        (
            {"utt2spk": None, "spk2utt": None},
            "/spk2utt: expected utt2spk or spk2utt, found neither",
        ),
        (
            {"utt2spk": None, "spk2utt": "alice a1 a2\nbob a2 b1\n"},
            "/spk2utt: 'a2': expected one speaker, found 'alice' and 'bob'",
        ),
        (
            {"segments": "b1 one\n"},
            "/segments:1: 'b1': expected a recording, its start and its end",
        ),
        ({"utt2spk": "a1 al ice\n"}, "/utt2spk:1: 'a1': expected one speaker, found"),
        (
            {"utt2num_samples": "a1 many\n"},
            "/utt2num_samples:1: 'a1': expected a number of samples, found 'many'",
        ),
        ({"wav.scp": None}, ": expected wav.scp or feats.scp, found neither"),
    ],
)
def test_what_fix_cannot_fix_it_leaves(changed, message, files, write_files):
    files.update(changed)
    files = {name: text for name, text in files.items() if text is not None}
    folder = write_files(files)
    with pytest.raises(DataError, match=re.escape(f"{folder}{message}")):
        fix(folder)
    assert {path.name for path in folder.iterdir()} == set(files)


def test_parts_combine_to_the_whole(segmented, write_files, tmp_path):
    whole = write_files(segmented)
    parts = split(whole, tmp_path / "parts", 2)
    assert [path.name for path in parts] == ["1", "2"]
    assert [list(validate(part)["utt2spk"]) for part in parts] == [["a1"], ["a2", "b1"]]
    assert combine(tmp_path / "again", *reversed(parts)) == []
    assert contents(tmp_path / "again") == segmented


def test_combine_fills_in_segments_and_utt2uniq(segmented, write_files, tmp_path):
    one = write_files(segmented, "one")
    two = write_files(
        {
            "utt2spk": "c1 carl\n",
            "spk2utt": "carl c1\n",
            "utt2uniq": "c1 c0\n",
            "text": "c1 X\n",
            "wav.scp": "c1 /x/c1.wav\n",
        },
        "two",
    )
    assert combine(tmp_path / "both", one, two) == ["spk2gender"]
    tables = validate(tmp_path / "both")
    assert tables["segments"]["c1"] == "c1 0 -1"
    assert tables["utt2uniq"] == {"a1": "a1", "a2": "a2", "b1": "b1", "c1": "c0"}
    assert tables["wav.scp"]["c1"] == "/x/c1.wav"
    assert read_table(tmp_path / "both" / "feats_type") == {"raw": ""}


def test_combine_over_another_directory_leaves_nothing_of_it(
    files, segmented, write_files, tmp_path
):
    dest = write_files(segmented, "old")
    combine(dest, write_files(files, "new"))
    assert contents(dest) == files


def test_combine_what_disagrees(files, segmented, write_files, tmp_path):
    one = write_files(files, "one")
    two = write_files(files, "two")
    message = f"{two}/text:1: 'a1': expected this utterance in one source, found"
    message += f" 'HELLO' in {one}/text"
    with pytest.raises(DataError, match=re.escape(message)):
        combine(tmp_path / "both", one, two)
    other = {
        "utt2spk": "b2 bob\n",
        "spk2utt": "bob b2\n",
        "spk2gender": "bob f\n",
        "text": "b2 X\n",
        "wav.scp": "b2 x\n",
        "feats_type": "extracted\n",
    }
    three = write_files(other, "three")
    message = f"{three}/spk2gender:1: 'bob': expected this speaker in one source, found"
    with pytest.raises(DataError, match=re.escape(message)):
        combine(tmp_path / "both", one, three)
    del other["spk2gender"]
    four = write_files(other, "four")
    message = (
        f"expected one feats_type, found 'raw' in {one}/feats_type, 'extracted' in"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        combine(tmp_path / "both", one, four)
    assert not (tmp_path / "both").exists()
    with pytest.raises(DataError, match="expected at least one data directory"):
        combine(tmp_path / "both")
    with pytest.raises(DataError, match="one: expected another folder than the source"):
        combine(one, two, one)


@pytest.mark.parametrize(
    "how,expected",
    [
        (dict(utt_ids=["b1", "a1", "b1"]), ["a1", "b1"]),
        (dict(first=2), ["a1", "a2"]),
        (dict(first=3), ["a1", "a2", "b1"]),
        (dict(per_speaker=1), ["a1", "b1"]),
        (dict(per_speaker=2), ["a1", "a2", "b1"]),
    ],
)
def test_subset(how, expected, segmented, write_files, tmp_path):
    chosen = subset(write_files(segmented), tmp_path / "part", **how)
    assert chosen == len(expected)
    tables = validate(tmp_path / "part")
    assert list(tables["utt2spk"]) == expected
    assert ("two" in tables["wav.scp"]) == ("b1" in expected)
    assert (tmp_path / "part" / "feats_type").read_text() == "raw\n"


@pytest.mark.parametrize(
    "how,message",
    [
        (dict(), "expected one of utt_ids, first and per_speaker, found none"),
        (
            dict(first=1, per_speaker=1),
            "expected one of utt_ids, first and per_speaker, found first and per_spe",
        ),
        (
            dict(utt_ids=["a1", "x", "y"]),
            "train: expected utterances of utt2spk, found no 'x' and 1 more",
        ),
        (
            dict(utt_ids=[]),
            "train: expected utterances of utt2spk, found an empty list",
        ),
        (
            dict(first=0),
            "train: first: expected 1 to 3, the number of utterances, .* 0",
        ),
        (
            dict(first=4),
            "train: first: expected 1 to 3, the number of utterances, .* 4",
        ),
        (dict(per_speaker=0), "train: per_speaker: expected 1 to 3, .* found 0"),
    ],
)
def test_wrong_subset(how, message, files, write_files, tmp_path):
    with pytest.raises(DataError, match=message):
        subset(write_files(files), tmp_path / "part", **how)
    assert not (tmp_path / "part").exists()


def test_split_a_file(tmp_path):
    lines = [f"utt{number:02} x\n" for number in range(11)]
    (tmp_path / "keys.scp").write_text("".join(lines))
    parts = split(tmp_path / "keys.scp", tmp_path / "log", 4)
    assert [path.name for path in parts] == [f"keys.{n}.scp" for n in (1, 2, 3, 4)]
    assert "".join(path.read_text() for path in parts) == "".join(lines)
    sizes = [len(read_table(path)) for path in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("n", [0, 4])
def test_wrong_split(n, files, write_files, tmp_path):
    message = f"train: expected 1 to 3 parts, as it has 3 lines, found {n}"
    with pytest.raises(DataError, match=message):
        split(write_files(files), tmp_path / "parts", n)


def make_large(folder, size):
    """A directory of many utterances in segments, whose speakers are in another order."""
    ids = [f"utt{number:06}" for number in range(size)]
    recordings = {f"{(n * 7919) % size:06}": f"/x/{n}.flac" for n in range(size)}
    tables = {
        "text": {utt_id: "THE CAT SAT ON THE MAT" for utt_id in ids},
        "utt2spk": {utt_id: f"spk{n % 97:02}" for n, utt_id in enumerate(ids)},
        "utt2num_samples": {utt_id: "16000" for utt_id in ids},
        "segments": {
            utt_id: f"{key} 0 -1" for utt_id, key in zip(ids, recordings, strict=True)
        },
        "wav.scp": recordings,
    }
    write(folder, tables)
    lines = (folder / "text").read_text().splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    (folder / "text").write_text("".join(lines))
    return folder


def test_tables_are_not_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "_IN_MEMORY", 100)
    monkeypatch.setattr(streams, "_AT_ONCE", 10)
    size = 1_000
    folder = make_large(tmp_path / "data", size)

    def stream():
        assert fix(folder) == {}
        assert check(folder) == size
        filter_lengths(folder, tmp_path / "part", 16000)
        assert subset(folder, tmp_path / "part", first=size // 2) == size // 2

    peaks = []
    for work in (stream, lambda: validate(folder)):
        tracemalloc.start()
        work()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] < peaks[1] / 2


def test_no_file_is_replaced_where_one_cannot_be_written(files, write_files):
    folder = write_files(files)
    before = contents(folder)
    tables = validate(folder)
    with pytest.raises(UnicodeEncodeError):
        write(folder, {**tables, "text": {**tables["text"], "a2": "\udc80"}})
    assert contents(folder) == before
