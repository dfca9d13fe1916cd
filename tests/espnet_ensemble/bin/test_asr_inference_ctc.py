"""Decoding of data sets with a CTC model."""

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from cache_runs import NUM_SAMPLES, write_noises

from espnet_ensemble.bin import asr_inference, asr_inference_ctc, extract
from espnet_ensemble.data.tables import read_table, write_table
from espnet_ensemble.decoding.ctm import read_ctm
from espnet_ensemble.decoding.posteriors import SavedPosteriors
from espnet_ensemble.files import write_yaml
from espnet_ensemble.integrations.espnet2.model import load_ctc_model

FILES = ("text", "token", "token_int", "score")


@pytest.fixture
def data(tmp_path):
    return write_noises(tmp_path)


@pytest.fixture
def exp(build_model, tmp_path, tiny_wavlm, tiny_hubert):
    build_model(tmp_path / "exp", [tiny_wavlm, tiny_hubert])
    return tmp_path / "exp"


def decode(exp, data, output_dir, *options, path=None, kind="sound"):
    asr_inference_ctc.main(
        [
            *("--asr_train_config", f"{exp}/config.yaml"),
            *("--asr_model_file", f"{exp}/valid.ave_2best.pth"),
            *("--output_dir", str(output_dir)),
            "--data_path_and_name_and_type",
            f"{path or data / 'wav.scp'},speech,{kind}",
            *map(str, options),
        ]
    )
    return read(output_dir)


def read(output_dir, n=1):
    return {name: read_table(output_dir / f"{n}best_recog" / name) for name in FILES}


def loop(exp, data, model=None):
    """One utterance after the other, one frame after the other."""
    model = model or load_ctc_model(None, exp / "valid.ave_2best.pth")
    found = {name: {} for name in FILES}
    for utt_id, path in read_table(data / "wav.scp").items():
        samples = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
        log_probs, _ = model.log_probs(samples[None], torch.tensor([len(samples)]))
        best, path = log_probs[0].max(dim=1)
        ids = [token for token, _ in groupby(path.tolist()) if token != 0]
        tokens = [model.vocabulary.tokens[token] for token in ids]
        found["text"][utt_id] = "".join(tokens).replace("<space>", " ").strip()
        found["token"][utt_id] = " ".join(tokens)
        found["token_int"][utt_id] = " ".join(map(str, ids))
        found["score"][utt_id] = float(best.sum())
    return found


def check(found, expected):
    for name in ("text", "token", "token_int"):
        assert found[name] == expected[name]
    scores = {utt_id: float(score) for utt_id, score in found["score"].items()}
    assert scores == pytest.approx(expected["score"], rel=1e-3, abs=1e-3)
    assert any(found["text"].values())


@pytest.mark.parametrize("loader", ["huggingface", "s3prl"])
@pytest.mark.parametrize("fusion", ["concat", "attention"])
def test_batches_give_what_a_loop_gives(
    fusion, loader, build_model, data, tmp_path, models, s3prl_checkpoints
):
    upstreams = [models("WavLM"), models("Hubert")]
    if loader == "s3prl":
        upstreams = [
            {"name": f"{family}_local", "path_or_url": s3prl_checkpoints(family)}
            for family in ("wavlm", "hubert")
        ]
    build_model(tmp_path / "exp", upstreams, fusion=fusion)
    expected = loop(tmp_path / "exp", data)
    check(decode(tmp_path / "exp", data, tmp_path / "out"), expected)
    check(decode(tmp_path / "exp", data, tmp_path / "one", "--batch_size", 1), expected)


def test_several_sets_in_one_process(exp, data, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("b\nf\n")
    more = ["--output_dir", tmp_path / "part", "--key_file", "none", "--key_file", keys]
    path = f"{data / 'wav.scp'},speech,sound"
    whole = decode(
        exp, data, tmp_path / "whole", *more, "--data_path_and_name_and_type", path
    )
    part = read(tmp_path / "part")
    assert set(whole["text"]) == set(NUM_SAMPLES)
    assert part["text"] == {utt_id: whole["text"][utt_id] for utt_id in ("b", "f")}
    summary = yaml.safe_load((tmp_path / "whole" / "decoding.yaml").read_text())
    seconds = sum(NUM_SAMPLES.values()) / 16000
    assert summary["audio_seconds"] == pytest.approx(seconds, rel=1e-3)
    assert summary["rtf"] == pytest.approx(1 / summary["rtfx"], rel=1e-2)
    assert (summary["utterances"], summary["failed"]) == (len(NUM_SAMPLES), {})
    assert (summary["search"], summary["device"]) == ("greedy", "cpu")


def _cache(exp, data, capsys):
    """Extract the features of a model's upstreams."""
    extract.main(
        [
            *("--data_dir", str(data), "--cache_dir", f"{data.parent}/feats"),
            *("--frontend_conf", str(exp / "config.yaml"), "--nj", "1", "--ngpu", "0"),
            *("--storage", "float32"),
        ]
    )
    return capsys.readouterr().out.splitlines()[-1]


def test_cached_features_give_what_audio_gives(exp, data, tmp_path, capsys):
    path = _cache(exp, data, capsys)
    options = {"path": path, "kind": "feature_cache"}
    found = decode(exp, data, tmp_path / "out", **options)
    check(found, loop(exp, data))

    write_table(tmp_path / "keys", {"a": "", "other": ""})
    found = decode(
        exp, data, tmp_path / "some", "--key_file", tmp_path / "keys", **options
    )
    assert found["text"]["a"] and found["text"]["other"] == ""

    config = yaml.safe_load((exp / "config.yaml").read_text())
    config["frontend_conf"]["upstreams"].reverse()
    (exp / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit, match="1"):
        decode(exp, data, tmp_path / "others", **options)
    assert not (tmp_path / "others").exists()


@pytest.mark.parametrize("kind", ["sound", "feature_cache"])
def test_some_of_the_members(kind, build_model, data, tmp_path, models, capsys):
    exp = tmp_path / "exp"
    build_model(exp, [models("WavLM"), models("Hubert")], fusion="projection")
    options = {"kind": kind, "path": _cache(exp, data, capsys)}
    if kind == "sound":
        options["path"] = None
    name = Path(models("Hubert")).name
    found = decode(exp, data, tmp_path / "out", "--members", name, **options)
    assert found["score"] != decode(exp, data, tmp_path / "all", **options)["score"]
    summary = yaml.safe_load((tmp_path / "out" / "decoding.yaml").read_text())
    assert summary["members"] == [name]

    model = load_ctc_model(None, exp / "valid.ave_2best.pth")
    model.model.frontend.select([1])
    check(found, loop(exp, data, model))

    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        decode(exp, data, tmp_path / "out", "--members", "xlsr", **options)
    assert f"expected some of {Path(models('WavLM')).name}, {name}, found 'xlsr'" in (
        capsys.readouterr().err
    )


def test_words_have_times_and_confidences(exp, data, tmp_path):
    found = decode(exp, data, tmp_path / "out")
    words = read_ctm(tmp_path / "out" / "1best_recog" / "ctm")
    for utt_id, text in found["text"].items():
        assert [word.text for word in words.get(utt_id, [])] == text.split()
    decode(exp, data, tmp_path / "out", "--ctm", "false")
    assert not (tmp_path / "out" / "1best_recog" / "ctm").exists()


def test_beam_search_is_for_those_who_ask_for_more(exp, data, tmp_path):
    plain = decode(exp, data, tmp_path / "beam", "--search", "beam", "--nbest", 2)
    assert read(tmp_path / "beam", n=2)["text"] != plain["text"]
    summary = yaml.safe_load((tmp_path / "beam" / "decoding.yaml").read_text())
    assert summary["search"] == "beam 10"
    (tmp_path / "utt2hotwords").write_text("a b c\n")
    hot = decode(
        exp,
        data,
        tmp_path / "hot",
        *("--utt2hotwords", tmp_path / "utt2hotwords", "--hotwords_weight", 50),
    )
    assert "bc" in hot["text"].pop("a")
    del plain["text"]["a"]
    assert hot["text"] == plain["text"]


def test_posteriors_are_kept_for_others(exp, data, tmp_path):
    decode(exp, data, tmp_path / "out", "--save_posteriors", "true")
    saved = SavedPosteriors(tmp_path / "out" / "posteriors")
    assert saved.tokens == ("<blank>", "<unk>", "a", "b", "c", "<sos/eos>")
    assert set(saved) == set(NUM_SAMPLES)
    model = load_ctc_model(None, exp / "valid.ave_2best.pth")
    samples, _ = soundfile.read(tmp_path / "wav" / "a.wav", dtype="float32")
    expected, _ = model.log_probs(
        torch.from_numpy(samples)[None], torch.tensor([len(samples)])
    )
    torch.testing.assert_close(saved["a"].log_probs, expected[0])
    assert saved["a"].frame_seconds == 0.02


def damage(folder):
    """Three utterances that cannot be decoded."""
    (folder / "a.wav").write_bytes(b"no audio")
    soundfile.write(folder / "b.wav", np.zeros(0), 16000)
    nan = np.full(4000, np.nan, np.float32)
    soundfile.write(folder / "d.wav", nan, 16000, subtype="FLOAT")


def test_bad_utterances_are_named_and_the_others_decoded(exp, data, tmp_path, caplog):
    expected = loop(exp, data)["text"]
    damage(tmp_path / "wav")
    found = decode(exp, data, tmp_path / "out")["text"]
    assert found == {**expected, "a": "", "b": "", "d": ""}
    failed = yaml.safe_load((tmp_path / "out" / "decoding.yaml").read_text())["failed"]
    assert set(failed) == {"a", "b", "d"}
    assert "a.wav: not an audio file" in failed["a"]
    assert "no sample" in failed["b"]
    assert "finite" in failed["d"]
    assert "3 without a transcript: a, b, d" in caplog.text


def test_or_stop_decoding(exp, data, tmp_path, capsys):
    damage(tmp_path / "wav")
    with pytest.raises(SystemExit, match="1"):
        decode(exp, data, tmp_path / "out", "--on_error", "stop")
    assert "wav: " in capsys.readouterr().err
    assert not (tmp_path / "out" / "1best_recog").exists()


def test_audio_of_another_rate_is_refused(exp, data, tmp_path, capsys):
    soundfile.write(tmp_path / "wav" / "a.wav", np.zeros(3217), 8000)
    with pytest.raises(SystemExit, match="1"):
        decode(exp, data, tmp_path / "out")
    error = capsys.readouterr().err
    assert "a: " in error and "at 16000 Hz" in error and "found 8000 Hz" in error


def test_it_agrees_with_espnet_where_the_model_is_sure(
    build_model, data, tmp_path, tiny_wavlm, tiny_hubert
):
    """Elsewhere the most probable transcript need not be that of the best path."""
    build_model(tmp_path / "sure", [tiny_wavlm, tiny_hubert], sharpness=200.0)
    found = decode(tmp_path / "sure", data, tmp_path / "out")
    asr_inference.main(
        [
            *("--asr_train_config", f"{tmp_path}/sure/config.yaml"),
            *("--asr_model_file", f"{tmp_path}/sure/valid.ave_2best.pth"),
            *("--data_path_and_name_and_type", f"{data}/wav.scp,speech,sound"),
            *("--output_dir", f"{tmp_path}/theirs", "--beam_size", "1"),
            *("--num_workers", "0"),
        ]
    )
    theirs = read(tmp_path / "theirs")
    for name in ("text", "token", "token_int"):
        assert found[name] == theirs[name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--lm_file", "lm.pth"],
            "--lm_file lm.pth: not for a model that has only CTC",
        ),
        (["--penalty", "0.5"], "--penalty 0.5: not for"),
        (["--time_sync", "true"], "--time_sync true: not for"),
        (["--output_dir", "more"], "found them 1, 2 and 1 times"),
        (["--ngpu", "2"], "--ngpu 2: expected 0 or 1"),
        (["--batch_size", "0"], "batch_size: expected a number above 0"),
        (
            ["--search", "greedy", "--hotwords", "words"],
            "--hotwords is for --search beam, found greedy",
        ),
        (["--window_seconds", "100"], "window_seconds: expected up to"),
        ([], "config.yaml: expected a file, found none"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(
    options, message, tmp_path, capsys
):
    with pytest.raises(SystemExit, match="1"):
        decode(tmp_path, tmp_path, tmp_path / "out", *options)
    assert message in capsys.readouterr().err


def test_long_audio_is_cut_to_the_length_of_training_utterances(exp, data, tmp_path):
    def settings(name, *options):
        decode(exp, data, tmp_path / name, *options)
        summary = yaml.safe_load((tmp_path / name / "decoding.yaml").read_text())
        return summary["long_audio"]

    assert settings("unknown")["segment_seconds"] == 15
    shapes = tmp_path / "speech_shape"
    shapes.write_text("a 16000\nb 32000\n")
    config = yaml.safe_load((exp / "config.yaml").read_text())
    write_yaml(exp / "config.yaml", {**config, "train_shape_file": [str(shapes)]})
    expected = {"segment_seconds": 1.5, "long_seconds": 6, "window_seconds": 4}
    assert settings("known") == pytest.approx({**expected, "overlap_seconds": 0.8})
    given = settings("given", "--segment_seconds", 0.3, "--long_seconds", 0.9)
    assert (given["segment_seconds"], given["long_seconds"]) == (0.3, 0.9)


def test_stock_configurations_work_as_long_as_they_ask_for_nothing(tmp_path):
    from repository import REPOSITORY

    parse = asr_inference_ctc.get_parser().parse_args
    needed = ["--output_dir", "x", "--data_path_and_name_and_type", "a,speech,sound"]
    stock = tmp_path / "decode_asr.yaml"
    stock.write_text("beam_size: 10\nlm_weight: 0.3\nctc_weight: 0.3\npenalty: 0.0\n")
    for path in (REPOSITORY / "conf" / "decode_asr_ctc.yaml", stock):
        asr_inference_ctc.check_foreign(parse(["--config", str(path), *needed]))
    # All of ESPnet's options are known.
    theirs = {action.dest for action in asr_inference.get_parser()._actions}
    ours = {action.dest for action in asr_inference_ctc.get_parser()._actions}
    assert theirs <= ours
