import numpy as np
import pytest
import soundfile
from espnet2.bin import aggregate_stats_dirs
from espnet2.tasks.asr import ASRTask

from espnet_ensemble.bin.known_shapes import NOT_KNOWN, main
from espnet_ensemble.data.datadir import validate, write

JOBS = 3


@pytest.fixture
def sets(tmp_path):
    """Options that name data directories of train and valid, and what is said there."""
    rng = np.random.default_rng(0)
    tokens = ["<blank>", "<unk>", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "<space>", "<sos/eos>"]
    (tmp_path / "tokens.txt").write_text("\n".join(tokens))
    options = ["--token_list", f"{tmp_path}/tokens.txt", "--token_type", "char"]
    for name, size in (("train", 7), ("valid", 4)):
        data_dir = tmp_path / "data" / name
        data_dir.mkdir(parents=True)
        ids = [f"{name}-{number:02}" for number in range(size)]
        lengths = {utt_id: int(rng.integers(1000, 2000)) for utt_id in ids}
        for utt_id, length in lengths.items():
            path = data_dir / f"{utt_id}.flac"
            soundfile.write(path, rng.normal(0, 0.1, length), 16000)
        texts = {u: " ".join(["HELLO"] * (n % 3 + 1)) for n, u in enumerate(ids)}
        tables = {
            "wav.scp": {utt_id: f"{data_dir}/{utt_id}.flac" for utt_id in ids},
            "utt2num_samples": {u: str(length) for u, length in lengths.items()},
            "text": texts,
            "utt2spk": {utt_id: "alice" for utt_id in ids},
        }
        write(data_dir, tables)
        option = f"--{name}_data_path_and_name_and_type"
        options += [option, f"{data_dir}/wav.scp,speech,sound"]
        options += [option, f"{data_dir}/text,text,text"]
    return options


def collect_by_espnet(sets, folder):
    """What stage 10 does where lengths are not known."""
    parts = []
    for job in range(JOBS):
        shapes = []
        for name in ("train", "valid"):
            keys = (folder.parent / "data" / name / "utt2spk").read_text().splitlines()
            part = folder.parent / f"{name}.{job}.scp"
            lines = [f"{line}\n" for n, line in enumerate(keys, 1) if n % JOBS == job]
            part.write_text("".join(lines))
            shapes += [f"--{name}_shape_file", str(part)]
        parts += ["--input_dir", f"{folder.parent}/stats.{job}"]
        options = ["--collect_stats", "true", "--ngpu", "0", "--num_workers", "0"]
        options += ["--model_conf", "extract_feats_in_collect_stats=false"]
        ASRTask.main(cmd=[*options, *sets, *shapes, "--output_dir", parts[-1]])
    aggregate_stats_dirs.main([*parts, "--skip_sum_stats", "--output_dir", str(folder)])


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_shapes_are_those_of_espnet(sets, tmp_path):
    main([*sets, "--jobs", str(JOBS), "--output_dir", str(tmp_path / "known")])
    collect_by_espnet(sets, tmp_path / "collected")
    names = [f"{s}/{t}_shape" for s in ("train", "valid") for t in ("speech", "text")]
    for name in names:
        known = (tmp_path / "known" / name).read_bytes()
        assert known == (tmp_path / "collected" / name).read_bytes()
        assert known.count(b"\n") == (7 if "train" in name else 4)


@pytest.mark.parametrize(
    "change,message",
    [
        (
            lambda tables: tables.pop("utt2num_samples"),
            "train/utt2num_samples: expected this file, found none",
        ),
        (
            lambda tables: tables["utt2num_samples"].update({"train-03": "7"}),
            "utt2num_samples: 'train-03': expected 1",
        ),
        (
            lambda tables: tables["utt2num_samples"].pop("train-06"),
            "expected the same utterances in wav.scp, utt2num_samples, text, found a "
            "difference at 'train-06'",
        ),
        (
            lambda tables: tables["wav.scp"].update({"train-00": "cat x.wav |"}),
            "'train-00': cat x.wav |: expected a file, found a command",
        ),
        (
            lambda tables: tables["wav.scp"].update({"train-00": "/gone.wav"}),
            "'train-00': /gone.wav: no such file",
        ),
    ],
)
def test_lengths_that_are_not_known_are_not_taken(
    change, message, sets, tmp_path, capsys
):
    data_dir = tmp_path / "data" / "train"
    tables = validate(data_dir)
    change(tables)
    write(data_dir, tables)
    with pytest.raises(SystemExit) as error:
        main([*sets, "--output_dir", str(tmp_path / "known")])
    assert error.value.code == NOT_KNOWN
    assert message in capsys.readouterr().err
