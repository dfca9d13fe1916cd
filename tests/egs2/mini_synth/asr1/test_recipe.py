"""The whole recipe on a cut-down corpus, as its users run it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from repository import REPOSITORY

from espnet_ensemble.testing.recipes import clone_recipe

pytestmark = pytest.mark.slow

SMALL = "--nj 2 --train_minutes 1 --dev_minutes 0.2 --test_minutes 0.2"
DECODED = "decode_asr_ctc_asr_model_latest"


@pytest.fixture(scope="module")
def environment():
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def run(environment):
    """Run run.sh: run(folder, option, value, ...) -> all that it printed."""

    def call(folder, *options, status=0):
        command = ["./run.sh", "--local_data_opts", SMALL, *options]
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    return call


def interrupt(folder, environment, moment, *options):
    """Run run.sh, and press Ctrl-C when it has printed what ``moment`` matches."""
    output = ""
    with subprocess.Popen(
        ["./run.sh", "--local_data_opts", SMALL, *options],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        for line in process.stdout:
            output += line
            if re.search(moment, line):
                os.killpg(process.pid, signal.SIGINT)
                break
        output += process.stdout.read()
    assert process.returncode != 0, output
    return output


def test_in_one_go_with_an_interruption(tmp_path, environment, run):
    folder = clone_recipe(REPOSITORY, tmp_path, "mini_synth")
    options = ["--asr_args", "--max_epoch 3", "--skip_packing", "false"]
    options += ["--cache_opts", "--storage int8 --shard_seconds 15"]
    compared = [*options, "--compare_members", "true"]
    name = "asr_train_asr_ctc_recommended_wavlm_ctc_hubert_ctc_norm-utterance_raw_char"
    exp = folder / "exp" / f"{name}_max_epoch3_c87cbb"

    interrupt(folder, environment, "epoch 2: train loss", *compared)
    assert (exp / "checkpoint.pth").exists()
    assert not (exp / ".done").exists() and not list(exp.glob("valid.*.ave.pth"))
    assert list(folder.glob("dump/feats/wavlm_ctc-last-*-int8/train/shards/*/*"))

    output = run(folder, *compared)
    assert "exp/asr_stats_raw_char is up to date" in output
    gone_on, _, _ = output.partition("alone: training, decoding, scoring")
    assert "epoch 1: train loss" not in gone_on and "epoch 3: train loss" in gone_on
    results = (exp / "RESULTS.md").read_text()
    assert results in output
    assert re.search(r"test: together \d+ % \w+ errors than the best alone", output)
    assert (exp / "images" / "members.png").is_file()
    rows = re.findall(rf"^\|({DECODED}/test)\|(\d+)\|", results, flags=re.MULTILINE)
    assert len(rows) == 2  # WER and CER
    hypotheses = (exp / DECODED / "test" / "text").read_text().splitlines()
    assert {int(row[1]) for row in rows} == {len(hypotheses)}
    assert "said:" in output
    assert (exp / DECODED / "test" / "ctm").is_file()
    assert (exp / "images" / "result.png").is_file()

    trained = (exp / "checkpoint.pth").stat().st_mtime_ns
    output = run(folder, *options)
    assert "is trained already" in output and "text is up to date" in output
    assert (exp / "checkpoint.pth").stat().st_mtime_ns == trained

    archive = next(exp.glob("asr_*.zip")).rename(tmp_path / "model.zip")
    wavs = dict(read(folder / "dump/raw/test/wav.scp"))
    utterances = [line.split()[0] for line in hypotheses][:3]
    paths = [str(folder / wavs[utterance]) for utterance in utterances]
    recognised = unpack_and_recognise(archive, paths, tmp_path, environment)
    by_espnet = ["--use_espnet_inference", "true", "--inference_tag", "by_espnet"]
    run(folder, *options, *by_espnet, "--stage", "12", "--stop_stage", "12")
    expected = dict(read(exp / "by_espnet/test/text"))
    assert recognised == [expected[utterance] for utterance in utterances]

    reverse_first(folder / "data/test/wav.scp", folder)
    anew = ["--stage", "3", "--stop_stage", "12"]
    output = run(folder, *options, *anew, status=1)
    assert "found those of other audio" in output and "remove dump/feats" in output
    output = run(folder, *options, *anew, "--cache_feats", "false")
    assert f"{exp.name} is trained already" in output
    assert "test/text is up to date" not in output

    reverse_first(folder / "data/train/wav.scp", folder)
    run(folder, *options, "--stage", "3", "--stop_stage", "4")
    only_training = ["--stage", "11", "--stop_stage", "11", "--cache_feats", "false"]
    output = run(folder, *options, *only_training, status=2)
    assert "was trained on other audio of train and valid than there is now" in output


def test_stage_by_stage_with_bpe_and_an_upstream_of_s3prl(tmp_path, run, environment):
    """Options, stages and a frontend other than the default's."""
    folder = clone_recipe(REPOSITORY, tmp_path, "mini_synth")
    options = ["--token_type", "bpe", "--nbpe", "60", "--speed_perturb_factors", "1.1"]
    options += ["--asr_config", "conf/train_asr_transformer2_ctc.yaml"]
    options += ["--inference_asr_model", "valid.cer_ctc.ave.pth"]
    options += ["--frontend_config", "conf/frontends/wavlm_s3prl_hubert.yaml"]
    options += ["--cache_feats", "false", "--eval_valid_set", "true", "--asr_args"]
    options += ["--max_epoch 1", "--inference_args", "--beam_size 2"]
    # Other than the defaults, and in no name: a hash tells them.
    options += ["--fs", "8k", "--feats_normalize", "global_mvn", "--expdir", "my exp's"]
    config = "train_asr_transformer2_ctc_wavlm_hf_hubert_custom-hubert"
    exp = f"my exp's/asr_{config}_raw_bpe60_max_epoch1_457ce4_sp"
    stats = f"my exp's/asr_stats_raw_bpe60_sp_{config}_f80636"
    decoded = "decode_asr_ctc_beam_size2_asr_model_valid.cer_ctc.ave"
    makes = {
        1: ["data/train/text", "data/valid/wav.scp", "data/test/utt2spk"],
        2: ["data/train_sp/wav.scp"],
        3: ["dump/raw/org/train_sp/wav.scp", "dump/raw/test/wav.scp"],
        4: [
            "dump/raw/train_sp/text",
            "dump/raw/valid/text",
            "dump/raw/lm_train_sp.txt",
        ],
        5: ["data/token_list/bpe_unigram60/bpe.model"],
        10: [f"{stats}/train/text_shape.bpe", f"{stats}/train/feats_stats.npz"],
        11: [f"{exp}/valid.cer_ctc.ave.pth", f"{exp}/config.yaml"],
        12: [f"{exp}/{decoded}/test/text", f"{exp}/{decoded}/org/valid/text"],
        13: [f"{exp}/RESULTS.md", f"{exp}/{decoded}/test/score_ter/result.txt"],
    }
    for stage, paths in makes.items():
        assert not any((folder / path).exists() for path in paths)
        run(folder, *options, "--stage", str(stage), "--stop_stage", str(stage))
        assert all((folder / path).exists() for path in paths)
    results = (folder / exp / "RESULTS.md").read_text()
    assert results.count(f"|{decoded}/org/valid|") == results.count(f"|{decoded}/test|")
    assert "### TER" in results
    perturbed = dict(read(folder / "dump/raw/train_sp/utt2spk"))
    assert all(key.startswith("sp1.1-") for key in perturbed)


def read(table):
    """Lines of a Kaldi-style file, key and value."""
    for line in table.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(" ")
        yield key, value


def reverse_first(wav_scp, folder):
    """Play the first utterance backwards."""
    _, path = next(read(wav_scp))
    samples, fs = soundfile.read(folder / path, dtype="int16")
    soundfile.write(folder / path, samples[::-1], fs)


def unpack_and_recognise(archive, wavs, folder, environment):
    """As a user of the model zoo does it, who has only the packages and the archive."""
    script = """if True:
        import sys
        import soundfile
        import espnet_ensemble
        from espnet2.bin.asr_inference import Speech2Text
        from espnet_model_zoo.downloader import ModelDownloader

        files = ModelDownloader("cache").download_and_unpack(sys.argv[1])
        speech2text = Speech2Text(**files)
        for wav in sys.argv[2:]:
            text, *_ = speech2text(soundfile.read(wav)[0])[0]
            print("text:", text)
    """
    (folder / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script, str(archive), *wavs],
        cwd=folder / "elsewhere",
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return re.findall(r"^text: ?(.*)$", done.stdout, flags=re.MULTILINE)
