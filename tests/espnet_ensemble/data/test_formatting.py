import multiprocessing
import os
import re
import shutil
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from espnet2.fileio.sound_scp import SoundScpReader

from espnet_ensemble.data import cuts
from espnet_ensemble.data.audio import AudioConf
from espnet_ensemble.data.datadir import validate, write
from espnet_ensemble.data.formatting import (
    AudioFailures,
    format_audio,
    speed_perturb,
)
from espnet_ensemble.data.tables import DataError, read_table

FLAC_16K = AudioConf(fs=16000)


def noise(num_samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, num_samples)


def describe(utterances, **tables):
    """A data directory in memory in which every utterance has a speaker of its own."""
    return {
        "text": {utt: f"TEXT OF {utt.upper()}" for utt in utterances},
        "utt2spk": {utt: f"spk_{utt}" for utt in utterances},
        "spk2gender": {f"spk_{utt}": "f" for utt in utterances},
        **tables,
    }


@pytest.fixture
def corpus(tmp_path):
    """Files of several rates and encodings, and a command: corpus / data directory."""
    paths = {name: tmp_path / name for name in ("a.flac", "b.wav", "c.wav", "d.wav")}
    soundfile.write(paths["a.flac"], noise(16000, 1), 16000)
    soundfile.write(paths["b.wav"], noise(4000, 2), 8000)
    soundfile.write(paths["c.wav"], noise(11025, 3), 44100, subtype="PCM_24")
    soundfile.write(paths["d.wav"], noise(8000, 4), 16000)
    entries = {path.stem: str(path) for path in paths.values()}
    entries["e"] = f"cat '{paths['d.wav']}' |"
    write(tmp_path / "data", describe(entries, **{"wav.scp": entries}))
    return tmp_path / "data"


@pytest.fixture
def segmented(tmp_path):
    """Two recordings, one of them a command that counts its runs, in four utterances."""
    recording = noise(48000, 5)
    soundfile.write(tmp_path / "r.wav", recording, 16000)
    command = f"echo run >> {tmp_path}/runs; cat {tmp_path}/r.wav |"
    segments = {"a": "r1 0 1", "b": "r1 1 2.5", "c": "r2 0.5 -1", "d": "r2 0.25 3.1"}
    tables = {
        "segments": segments,
        "wav.scp": {"r1": f"{tmp_path}/r.wav", "r2": command},
    }
    write(tmp_path / "data", describe(segments, **tables))
    return tmp_path / "data"


def everything(folder):
    """The bytes of every file, by path in the folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def read(folder):
    """Read as ESPnet's training does: utterance -> rate, samples."""
    reader = SoundScpReader(folder / "wav.scp", dtype="float32")
    return {key: reader[key] for key in reader.keys()}


def audio_of(folder):
    return {utterance: samples for utterance, (_, samples) in read(folder).items()}


def test_format_makes_what_espnet_reads(corpus, tmp_path):
    dest = tmp_path / "dump" / "raw" / "train"
    assert format_audio(corpus, dest, FLAC_16K) == []
    tables, source = validate(dest), validate(corpus)
    for name in ("text", "utt2spk", "spk2gender"):
        assert tables[name] == source[name]
    assert (dest / "feats_type").read_text() == "raw\n"
    assert (dest / "audio_format").read_text() == "flac\n"
    for utterance, (rate, samples) in read(dest).items():
        assert (rate, samples.ndim) == (16000, 1)
        assert tables["utt2num_samples"][utterance] == str(len(samples))
        info = soundfile.info(tables["wav.scp"][utterance])
        assert (info.format, info.subtype) == ("FLAC", "PCM_16")


def test_formatted_audio_is_the_source_resampled(corpus, tmp_path):
    format_audio(corpus, tmp_path / "dump", FLAC_16K)
    formatted = audio_of(tmp_path / "dump")
    for utterance in "abcd":
        (path,) = tmp_path.glob(f"{utterance}.*")
        samples, rate = soundfile.read(path)
        if rate != 16000:
            samples = soxr.resample(samples, rate, 16000)
        np.testing.assert_allclose(formatted[utterance], samples, atol=1 / 32768)
    assert np.array_equal(formatted["e"], formatted["d"])


def test_a_file_that_is_as_asked_is_named_where_it_is(corpus, tmp_path):
    format_audio(corpus, tmp_path / "flac", FLAC_16K)
    format_audio(corpus, tmp_path / "wav", AudioConf(fs=None, audio_format="wav"))
    expected = {"flac": {"a"}, "wav": {"b", "d"}}
    for name, utterances in expected.items():
        entries = read_table(tmp_path / name / "wav.scp")
        same = {utt for utt, path in entries.items() if Path(path).parent == tmp_path}
        assert same == utterances


def test_rates_are_kept_without_fs(corpus, tmp_path):
    format_audio(corpus, tmp_path / "dump", AudioConf(audio_format="wav"))
    rates = {utt: rate for utt, (rate, _) in read(tmp_path / "dump").items()}
    assert rates == {"a": 16000, "b": 8000, "c": 44100, "d": 16000, "e": 16000}


def test_segments(segmented, tmp_path):
    format_audio(segmented, tmp_path / "dump", FLAC_16K, nj=2)
    assert "segments" not in validate(tmp_path / "dump")
    formatted = audio_of(tmp_path / "dump")
    whole = soundfile.read(tmp_path / "r.wav", dtype="float32")[0]
    parts = {"a": (0, 16000), "b": (16000, 40000), "c": (8000, None), "d": (4000, None)}
    for utterance, (start, end) in parts.items():
        assert np.array_equal(formatted[utterance], whole[start:end])
    assert (tmp_path / "runs").read_text() == "run\n"


@pytest.mark.parametrize("source", ["corpus", "segmented"])
def test_any_number_of_jobs_gives_the_same(source, tmp_path, request):
    source = request.getfixturevalue(source)
    results = []
    for nj in (1, 3, 40):
        speed_perturb(source, tmp_path / "dump", conf=FLAC_16K, nj=nj)
        results.append(everything(tmp_path / "dump"))
        shutil.rmtree(tmp_path / "dump")
    assert results[0] == results[1] == results[2]


def test_speed_perturb_names_copies_as_espnet_does(corpus, tmp_path):
    write(corpus, {**validate(corpus), "utt2lang": {utt: "en" for utt in "abcde"}})
    speed_perturb(corpus, tmp_path / "sp", ["0.9", "1.0", "1.1"], FLAC_16K)
    tables = validate(tmp_path / "sp")
    names = [prefix + utt for prefix in ("", "sp0.9-", "sp1.1-") for utt in "abcde"]
    assert list(tables["utt2spk"]) == names
    assert tables["utt2spk"]["sp0.9-a"] == "sp0.9-spk_a"
    assert tables["spk2gender"]["sp1.1-spk_b"] == "f"
    assert tables["text"]["sp1.1-b"] == tables["text"]["b"] == "TEXT OF B"
    assert tables["utt2lang"]["sp1.1-b"] == "en"
    assert tables["utt2uniq"] == {name: name[-1] for name in names}


def test_speed_perturb_audio(segmented, tmp_path):
    speed_perturb(segmented, tmp_path / "sp", (0.9, 1, 1.1), FLAC_16K)
    format_audio(segmented, tmp_path / "dump", FLAC_16K)
    perturbed, original = audio_of(tmp_path / "sp"), audio_of(tmp_path / "dump")
    assert len(perturbed) == 3 * len(original)
    for name, samples in perturbed.items():
        source = original[name[-1]]
        speed = Fraction(name[2:-2] or "1")
        expected = soxr.resample(source, float(16000 * speed), 16000)
        assert abs(len(samples) - len(source) / speed) <= Fraction(1, 2)
        np.testing.assert_allclose(samples, expected, atol=1 / 32768)


def test_formatting_what_was_perturbed_copies_nothing(corpus, tmp_path):
    speed_perturb(corpus, tmp_path / "sp", conf=FLAC_16K)
    format_audio(tmp_path / "sp", tmp_path / "dump", FLAC_16K)
    for name in ("wav.scp", "text", "utt2uniq", "utt2num_samples", "spk2utt"):
        expected = read_table(tmp_path / "sp" / name)
        assert read_table(tmp_path / "dump" / name) == expected


def count_written(monkeypatch):
    written, write_audio = [], cuts.write_audio
    monkeypatch.setattr(
        cuts, "write_audio", lambda *args: (written.append(args), write_audio(*args))
    )
    return written


def test_what_is_finished_is_not_made_again(segmented, tmp_path, monkeypatch):
    dest = tmp_path / "dump"
    format_audio(segmented, dest, FLAC_16K)
    before = everything(dest)
    written = count_written(monkeypatch)
    format_audio(segmented, dest, FLAC_16K)
    assert everything(dest) == before
    assert not written
    assert (tmp_path / "runs").read_text() == "run\n"


def test_what_changed_is_made_again(corpus, tmp_path, monkeypatch):
    dest = tmp_path / "dump"
    format_audio(corpus, dest, FLAC_16K)
    written = count_written(monkeypatch)

    def remade():
        written.clear()
        format_audio(corpus, dest, FLAC_16K)
        validate(dest)
        return sorted(os.path.basename(path)[0] for path, *_ in written)

    soundfile.write(tmp_path / "b.wav", noise(8000, 6), 8000)
    assert remade() == ["b"]
    assert len(audio_of(dest)["b"]) == 16000
    os.utime(tmp_path / "b.wav", (1, 1))
    assert remade() == ["b"]
    entries = read_table(dest / "wav.scp")
    os.unlink(entries["b"])
    os.truncate(entries["c"], 100)
    assert remade() == ["b", "c"]
    format_audio(corpus, dest, AudioConf(fs=8000))
    assert {rate for rate, _ in read(dest).values()} == {8000}
    assert remade() == ["b", "c", "d", "e"]
    shutil.move(dest, tmp_path / "moved")
    dest = tmp_path / "moved"
    assert remade() == ["b", "c", "d", "e"]  # the paths in its record are of before


def in_child(function, *args, **kwargs):
    """Run it in a process that may be killed, and return the exit status."""
    process = multiprocessing.get_context("fork").Process(
        target=function, args=args, kwargs=kwargs
    )
    process.start()
    process.join(60)
    return process.exitcode


def killed_while(monkeypatch, when, utterance):
    """Arrange that the process kills itself at some point of its work on an utterance."""

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    replace, write_file = os.replace, soundfile.write

    def dying_replace(source, target):
        if when == "before_rename" and f"/{utterance}." in str(target):
            kill()
        replace(source, target)
        if when == "after_rename" and f"/{utterance}." in str(target):
            kill()

    def dying_write(path, *args, **kwargs):
        write_file(path, *args, **kwargs)
        if when == "half_written" and f".{utterance}." in str(path):
            os.truncate(path, os.path.getsize(path) // 2)
            kill()

    def dying_line(made, line=cuts._line):
        if when == "half_recorded" and made.utt_id == utterance:
            with open(Path(made.path).parents[1] / "record", "a") as record:
                record.write(line(made)[:-20])
            kill()
        return line(made)

    monkeypatch.setattr(os, "replace", dying_replace)
    monkeypatch.setattr(soundfile, "write", dying_write)
    monkeypatch.setattr(cuts, "_line", dying_line)


@pytest.mark.parametrize(
    "when", ["half_written", "before_rename", "after_rename", "half_recorded"]
)
def test_killed_and_run_again_is_as_if_undisturbed(when, corpus, tmp_path, monkeypatch):
    dest = tmp_path / "dump"
    speed_perturb(corpus, dest, conf=FLAC_16K)
    undisturbed = everything(dest)
    shutil.rmtree(dest)
    with monkeypatch.context() as patch:
        killed_while(patch, when, "sp0.9-c")
        status = in_child(speed_perturb, corpus, dest, conf=FLAC_16K, nj=1)
    assert status == -signal.SIGKILL
    assert not (dest / "wav.scp").exists()
    left = {name for name in everything(dest) if name.endswith(".flac")}
    assert left and all(everything(dest)[name] == undisturbed[name] for name in left)
    written = count_written(monkeypatch)
    speed_perturb(corpus, dest, conf=FLAC_16K, nj=2)
    assert everything(dest) == undisturbed
    assert 0 < len(written) < 14  # 15 utterances, one of them as asked


def test_killed_twice(corpus, tmp_path, monkeypatch):
    """The second run adds to a record that ends in the middle of a line."""
    dest = tmp_path / "dump"
    for when, utterance in [("half_recorded", "b"), ("before_rename", "e")]:
        with monkeypatch.context() as patch:
            killed_while(patch, when, utterance)
            status = in_child(format_audio, corpus, dest, FLAC_16K)
        assert status == -signal.SIGKILL
    written = count_written(monkeypatch)
    format_audio(corpus, dest, FLAC_16K)
    assert [Path(path).stem for path, *_ in written] == ["e"]
    assert audio_of(dest).keys() == set("abcde")


def test_killed_by_a_command_in_the_middle(corpus, tmp_path):
    """Nothing is patched: the process that runs the command is killed by it."""
    entries = read_table(corpus / "wav.scp")
    flag = tmp_path / "flag"
    kill_once = f"test -e {flag} || {{ touch {flag}; kill -KILL $PPID; }}"
    entries["c"] = f"{kill_once}; cat {entries['c']} |"
    write(corpus, {**validate(corpus), "wav.scp": entries})
    dest = tmp_path / "dump"
    assert in_child(format_audio, corpus, dest, FLAC_16K) == -signal.SIGKILL
    assert not (dest / "wav.scp").exists()
    format_audio(corpus, dest, FLAC_16K)
    disturbed = everything(dest)
    shutil.rmtree(dest)
    format_audio(corpus, dest, FLAC_16K)
    assert everything(dest) == disturbed


@pytest.fixture
def broken(corpus, tmp_path):
    """The corpus with an utterance of each defect."""
    nan = noise(100)
    nan[3] = np.nan
    soundfile.write(tmp_path / "nan.wav", nan, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "empty.wav", noise(0), 16000)
    soundfile.write(tmp_path / "stereo.wav", noise(200).reshape(100, 2), 16000)
    soundfile.write(tmp_path / "cut.flac", noise(16000), 16000)
    os.truncate(tmp_path / "cut.flac", 5000)
    (tmp_path / "junk.wav").write_text("junk")
    entries = read_table(corpus / "wav.scp")
    for path in tmp_path.glob("*.*"):
        entries[path.stem] = str(path)
    entries["gone"] = f"{tmp_path}/gone.wav"
    entries["exit"] = "echo no such disk >&2; exit 2 |"
    entries["x/y"] = entries["b"]
    write(corpus, describe(entries, **{"wav.scp": entries}))
    return corpus


def test_every_failure_is_named_and_all_else_is_kept(broken, tmp_path):
    dest = tmp_path / "dump"
    with pytest.raises(AudioFailures) as caught:
        format_audio(broken, dest, FLAC_16K, nj=2)
    expected = {
        "cut": (f"{tmp_path}/cut.flac", "not decodable, maybe cut off: "),
        "empty": (
            f"{tmp_path}/empty.wav",
            "expected audio from 0.0 s, found 0 samples",
        ),
        "exit": ("echo no such disk >&2; exit 2 |", "status is 2: no such disk"),
        "gone": (f"{tmp_path}/gone.wav", "no such file"),
        "junk": (f"{tmp_path}/junk.wav", "not an audio file"),
        "nan": (f"{tmp_path}/nan.wav", "expected finite samples, found NaN"),
        "stereo": (f"{tmp_path}/stereo.wav", "expected one channel, found 2"),
        "x/y": (f"{tmp_path}/b.wav", "expected no '/' in the name"),
    }
    assert [failure.utt_id for failure in caught.value.failures] == sorted(expected)
    message = str(caught.value)
    assert "no audio for 8 utterance(s):" in message
    for utterance, (source, reason) in expected.items():
        pattern = re.escape(f"{utterance}: {source}: ") + ".*" + re.escape(reason)
        assert re.search(pattern, message)
    assert not (dest / "wav.scp").exists()
    kept = {path.stem for path in dest.glob("data/*/*.flac")}
    assert kept == {"b", "c", "d", "e"}  # a is as asked

    failures = format_audio(broken, dest, FLAC_16K, ignore_errors=True)
    assert failures == caught.value.failures
    assert set(validate(dest)["utt2spk"]) == set("abcde")


def test_ref_channel(broken, tmp_path):
    conf = AudioConf(fs=16000, ref_channel=0)
    failures = format_audio(broken, tmp_path / "dump", conf, ignore_errors=True)
    assert "stereo" not in {failure.utt_id for failure in failures}
    assert len(audio_of(tmp_path / "dump")["stereo"]) == 100


def test_failing_segments_are_named_with_their_times(segmented, tmp_path):
    tables = validate(segmented)
    tables["segments"]["b"] = "r1 1 7"
    write(segmented, tables)
    message = (
        f"b: {tmp_path}/r.wav from 1.0 s to 7.0 s: expected audio from 1.0 s to 7.0"
    )
    with pytest.raises(AudioFailures, match=re.escape(message)) as caught:
        format_audio(segmented, tmp_path / "dump", FLAC_16K)
    assert len(caught.value.failures) == 1


def test_nothing_to_keep(corpus, tmp_path):
    write(corpus, describe(["a"], **{"wav.scp": {"a": "/gone.wav"}}))
    with pytest.raises(AudioFailures, match="a: /gone.wav: no such file"):
        format_audio(corpus, tmp_path / "dump", ignore_errors=True)


def test_no_old_wav_scp_stays_after_a_failure(corpus, tmp_path):
    format_audio(corpus, tmp_path / "dump", FLAC_16K)
    os.unlink(tmp_path / "b.wav")
    with pytest.raises(AudioFailures):
        format_audio(corpus, tmp_path / "dump", FLAC_16K)
    assert not (tmp_path / "dump" / "wav.scp").exists()


def test_unexpected_error_stops(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(cuts, "change_speed", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        format_audio(corpus, tmp_path / "dump", FLAC_16K)


@pytest.mark.parametrize(
    "factors", [(0.9, "0.9"), ("x",), (0,), (-1,), ("nan",), (1, "1.0"), ("inf",)]
)
def test_wrong_factors(factors, corpus, tmp_path):
    listing = ", ".join(map(str, factors))
    message = f"speed_perturb_factors: expected different numbers above 0, .* {listing}"
    with pytest.raises(DataError, match=message):
        speed_perturb(corpus, tmp_path / "sp", factors)


def test_wrong_arguments(corpus, tmp_path):
    with pytest.raises(DataError, match="expected another folder than the source"):
        format_audio(corpus, corpus / "." / ".." / "data")
    with pytest.raises(DataError, match="nj: expected at least 1, found 0"):
        format_audio(corpus, tmp_path / "dump", nj=0)
    with pytest.raises(DataError, match="speed_perturb_factors: expected at least one"):
        speed_perturb(corpus, tmp_path / "sp", [])
    speed_perturb(corpus, tmp_path / "sp")
    with pytest.raises(DataError, match="sp: expected utterances at one speed, found"):
        speed_perturb(tmp_path / "sp", tmp_path / "sp2")
    tables = validate(corpus)
    tables["feats.scp"] = tables.pop("wav.scp")
    write(corpus, tables)
    with pytest.raises(DataError, match="data/wav.scp: expected this file, found none"):
        format_audio(corpus, tmp_path / "dump")
