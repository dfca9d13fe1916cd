"""ESPnet trains from the cache as from audio."""

import json
import pickle
import shutil
from argparse import Namespace
from itertools import chain

import pytest
import soundfile
import torch
import yaml
from cache_runs import write_noises
from espnet2.bin import asr_train
from espnet2.tasks.asr import ASRTask
from espnet2.train.distributed_utils import DistributedOption

import espnet_ensemble  # noqa: F401
from espnet_ensemble.data.tables import read_table, write_table
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.dataset import FeatureCache
from espnet_ensemble.feature_cache.extract import ExtractConf, extract
from espnet_ensemble.integrations.espnet2 import disk_order
from espnet_ensemble.integrations.espnet2.checks import (
    check_features,
    check_training,
)
from espnet_ensemble.integrations.espnet2.frontend import EnsembleFrontend
from espnet_ensemble.recipes.splitting import split_training
from espnet_ensemble.upstream import registry


def train_conf(upstreams):
    return {
        "frontend": "ensemble",
        "frontend_conf": {"upstreams": upstreams},
        "normalize": "utterance_mvn",
        "encoder": "transformer",
        "encoder_conf": {
            "input_layer": "linear",
            "output_size": 32,
            "attention_heads": 4,
            "linear_units": 64,
            "num_blocks": 1,
        },
        "decoder": None,
        "model_conf": {"ctc_weight": 1.0},
        "optim_conf": {"lr": 0.003},
        "batch_type": "unsorted",
        "batch_size": 3,
        "max_epoch": 2,
        "seed": 1,
    }


def losses(texts, conf, source, exp, num_workers=0, more=()):
    """Train, and return the loss of each epoch, in training and validation."""
    exp.mkdir()
    (exp / "train.yaml").write_text(yaml.safe_dump(conf))
    args = ["--config", exp / "train.yaml", "--output_dir", exp, "--ngpu", "0"]
    args += ["--token_type", "char", "--token_list", texts / "tokens.txt"]
    args += ["--num_workers", num_workers, *more]
    for split in ("train", "valid"):
        option = f"--{split}_data_path_and_name_and_type"
        args += [option, source, option, f"{texts}/text,text,text"]
        args += [f"--{split}_shape_file", texts / "speech_shape"]
    asr_train.main([str(arg) for arg in args])
    reporter = torch.load(exp / "checkpoint.pth", weights_only=False)["reporter"]
    stats = reporter["stats"].values()
    return [stat[split]["loss"] for stat in stats for split in ("train", "valid")]


@pytest.fixture
def data(tmp_path):
    """A data directory of noises at 16 kHz: <tmp_path>/wav/<id>.wav."""
    return write_noises(tmp_path)


@pytest.fixture
def texts(tmp_path):
    """What training needs besides speech: texts, tokens, and the lengths of the speech."""
    num_samples = {"a": 3217, "b": 8000, "d": 7999, "f": 16000}
    folder = tmp_path / "texts"
    folder.mkdir()
    write_table(folder / "text", {key: "hi" for key in num_samples})
    write_table(folder / "speech_shape", {k: str(n) for k, n in num_samples.items()})
    (folder / "tokens.txt").write_text("<blank>\n<unk>\nh\ni\n<sos/eos>\n")
    return folder


@pytest.mark.slow
def test_losses_equal_those_from_audio(data, texts, tmp_path, tiny_wavlm, slow_hubert):
    conf = train_conf([{"name": tiny_wavlm, "layer": "weighted_sum"}, slow_hubert])
    audio = f"{data}/wav.scp,speech,sound"
    expected = losses(texts, conf, audio, tmp_path / "from_audio")
    extract_conf = ExtractConf(storage="float32")
    path = extract(data, conf["frontend_conf"], tmp_path / "feats", extract_conf)
    cache = f"{path},speech,feature_cache"
    found = losses(texts, conf, cache, tmp_path / "from_cache", num_workers=2)
    assert len(expected) == 4 and expected[3] < expected[1]
    assert found == pytest.approx(expected, rel=1e-4)
    # The same with each layer as a member of its own.
    layers, cache_dir = ExtractConf("float32", layers="all"), tmp_path / "layers"
    extract(data, {"upstreams": [tiny_wavlm]}, cache_dir, layers)
    path = extract(data, conf["frontend_conf"], cache_dir, extract_conf)
    assert len(FeatureCache(path).members) == 5
    cache = f"{path},speech,feature_cache"
    assert found == losses(texts, conf, cache, tmp_path / "from_layers")


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_training_set_in_parts(data, texts, tmp_path, tiny_wavlm):
    """Of ESPnet's --multiple_iterator: an epoch has all of them."""
    conf = train_conf([tiny_wavlm])
    path = extract(data, conf["frontend_conf"], tmp_path / "feats")
    parts = tmp_path / "parts"
    split_training([texts / "text", texts / "speech_shape"], parts, 2, path)
    named = [
        "--train_data_path_and_name_and_type",
        f"{parts}/feats,speech,feature_cache",
    ]
    named += ["--train_data_path_and_name_and_type", f"{parts}/text,text,text"]
    named += [
        "--train_shape_file",
        f"{parts}/speech_shape",
        "--multiple_iterator",
        "true",
    ]
    named += ["--token_type", "char", "--token_list", texts / "tokens.txt"]
    parser = asr_train.get_parser()
    parser.set_defaults(**conf, num_workers=0, ngpu=0)
    args = parser.parse_args([str(word) for word in named])
    check_training(args)
    factory = ASRTask.build_multiple_iter_factory(args, DistributedOption(), "train")
    for epoch in (1, 2):
        batches = list(factory.build_iter(epoch))
        assert sorted(chain(*(keys for keys, _ in batches))) == ["a", "b", "d", "f"]
        for keys, batch in batches:
            for key, feats, length in zip(
                keys, batch["speech"], batch["speech_lengths"], strict=True
            ):
                expected = torch.from_numpy(FeatureCache(path)[key])
                assert torch.equal(feats[:length], expected)
    write_table(parts / "speech_shape" / "split.1", {"nobody": "1"})
    with pytest.raises(CacheError, match=r"split.1: .*'nobody'"):
        check_training(args)


@pytest.mark.slow
def test_batches_in_the_order_of_the_disk(
    data, texts, tmp_path, tiny_wavlm, monkeypatch
):
    """With one window they are ESPnet's, in another order."""
    conf = train_conf([tiny_wavlm])
    options = ExtractConf("float32", shard_seconds=0.6)
    path = extract(data, conf["frontend_conf"], tmp_path / "feats", options)
    cache = f"{path},speech,feature_cache"
    expected = losses(texts, conf, cache, tmp_path / "exp")
    conf["iterator_type"] = "task"
    found = losses(texts, conf, cache, tmp_path / "one_window", num_workers=1)
    assert found == pytest.approx(expected, rel=0.1)
    monkeypatch.setattr(disk_order, "WINDOW", 1)
    found = losses(texts, conf, cache, tmp_path / "windows")
    assert len(found) == 4 and found[3] < found[1]
    audio = f"{data}/wav.scp,speech,sound"
    with pytest.raises(
        CacheError, match="iterator_type: task is for training from the"
    ):
        losses(texts, conf, audio, tmp_path / "audio")


@pytest.mark.slow
def test_checkpoint_of_cached_training_takes_audio(data, texts, tmp_path, tiny_wavlm):
    """The same configuration and checkpoint, with the fingerprint of the weights."""
    conf, exp = train_conf([tiny_wavlm]), tmp_path / "exp"
    path = extract(data, conf["frontend_conf"], tmp_path / "feats")
    losses(texts, conf, f"{path},speech,feature_cache", exp)
    model, _ = ASRTask.build_model_from_file(exp / "config.yaml", exp / "2epoch.pth")
    with torch.no_grad():
        encoded, lengths = model.encode(torch.rand(1, 8000), torch.tensor([8000]))
    assert encoded.shape == (1, 24, 32) and lengths.tolist() == [24]


@pytest.mark.parametrize(
    "change,more,message",
    [
        ({}, ["--rir_scp", "rir.scp"], "rir_scp needs the waveform in each epoch, but"),
        ({}, ["--noise_scp", "noise.scp"], "noise_scp needs the waveform"),
        (
            {"speech_volume_normalize": 1.0},
            [],
            "speech_volume_normalize needs the wave",
        ),
        (
            {"preprocessor_conf": {"force_single_channel": True}},
            [],
            "force_single_channel needs the waveform",
        ),
        (
            {"frontend": "default", "frontend_conf": {}},
            [],
            "frontend ensemble, found def",
        ),
    ],
)
def test_options_that_need_the_waveform(
    change, more, message, data, texts, tmp_path, tiny_wavlm
):
    conf = train_conf([tiny_wavlm])
    path = extract(data, conf["frontend_conf"], tmp_path / "feats")
    source = f"{path},speech,feature_cache"
    with pytest.raises(CacheError, match=message):
        losses(texts, {**conf, **change}, source, tmp_path / "exp", more=more)


def test_features_of_others(data, texts, tmp_path, tiny_wavlm, tiny_hubert):
    conf = train_conf([tiny_wavlm])
    path = extract(data, conf["frontend_conf"], tmp_path / "feats")
    for number, (upstreams, message) in enumerate(
        [
            ([tiny_hubert], "WavLM.*: fingerprint: expected .*, found"),
            (
                [{"name": tiny_wavlm, "layer": 1}],
                r"layers: expected \[1\], found \[3\]; extract those of this",
            ),
            ([tiny_wavlm, tiny_hubert], "of 2 upstreams .*, found those of 1; extract"),
        ]
    ):
        source, exp = f"{path},speech,feature_cache", tmp_path / f"exp{number}"
        with pytest.raises(CacheError, match=message) as error:
            losses(texts, train_conf(upstreams), source, exp)
        assert "remove" not in str(error.value)


def test_the_right_features_are_pointed_to(
    data, texts, tmp_path, tiny_wavlm, tiny_hubert
):
    pair = [tiny_wavlm, tiny_hubert]
    path = extract(data, {"upstreams": pair}, tmp_path / "feats")
    source, conf = f"{path},speech,feature_cache", train_conf(pair[::-1])
    message = "expected features in the order of frontend_conf, Hubert.*WavLM.*; found"
    with pytest.raises(CacheError, match=f"{message} another; extract those of this"):
        losses(texts, conf, source, tmp_path / "exp0")
    right = extract(data, conf["frontend_conf"], tmp_path / "feats")
    with pytest.raises(CacheError, match="frontend_conf are in ") as error:
        losses(texts, conf, source, tmp_path / "exp1")
    assert str(error.value).endswith(f" are in {right}")


def test_features_of_another_configuration(data, texts, tmp_path, tiny_wav2vec2):
    model = shutil.copytree(tiny_wav2vec2, tmp_path / "model")
    conf = train_conf([str(model)])
    path = extract(data, conf["frontend_conf"], tmp_path / "feats")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    message = "the weights are the same, but the features differ by .* %: .*; extract"
    with pytest.raises(CacheError, match=message):
        losses(texts, conf, f"{path},speech,feature_cache", tmp_path / "exp")


def test_audio_that_has_changed_since(data, texts, tmp_path, tiny_wavlm):
    conf, wav = train_conf([tiny_wavlm]), tmp_path / "wav" / "d.wav"
    path = extract(data, conf["frontend_conf"], tmp_path / "feats")
    samples, fs = soundfile.read(wav)
    soundfile.write(wav, samples[::-1], fs)
    source = f"{path},speech,feature_cache"
    message = f"'d': expected features of {wav}, found those of other audio"
    with pytest.raises(CacheError, match=message):
        losses(texts, conf, source, tmp_path / "exp")
    # What is not trained on may be as it is.
    lengths = read_table(texts / "speech_shape")
    del lengths["d"]
    write_table(texts / "speech_shape", lengths)
    args = checked(conf, path, texts)
    check_training(args)
    # And so may what is not there.
    write_table(texts / "speech_shape", {**lengths, "d": "7999"})
    with pytest.raises(CacheError, match=message):
        check_training(args)
    wav.unlink()
    check_training(args)
    shutil.move(tmp_path / "feats", tmp_path / "moved")
    shutil.rmtree(data)
    check_training(
        checked(conf, tmp_path / "moved" / path.relative_to(tmp_path / "feats"), texts)
    )


def checked(conf, path, texts):
    """The options that are checked."""
    source = [(str(path), "speech", "feature_cache")]
    return Namespace(
        frontend=conf["frontend"],
        frontend_conf=conf["frontend_conf"],
        train_data_path_and_name_and_type=source,
        valid_data_path_and_name_and_type=source,
        train_shape_file=[str(texts / "speech_shape")],
        valid_shape_file=[str(texts / "speech_shape")],
        multiple_iterator=False,
    )


@pytest.mark.slow
def test_upstreams_are_loaded_once(data, texts, tmp_path, tiny_wavlm, monkeypatch):
    conf = train_conf([tiny_wavlm, {"name": tiny_wavlm, "layer": 1}])
    conf["frontend_conf"]["dtype"] = "bfloat16"
    path = extract(data, conf["frontend_conf"], tmp_path / "feats")
    loaded, load = [], registry.load_upstream

    def spy(conf, *args):
        loaded.append(conf.layer)
        return load(conf, *args)

    monkeypatch.setattr(registry, "load_upstream", spy)
    losses(texts, conf, f"{path},speech,feature_cache", tmp_path / "exp")
    assert loaded == ["last", 1]


def test_skipped_utterances_are_named_before_training(
    data, texts, tmp_path, tiny_wavlm
):
    conf, wav = train_conf([tiny_wavlm]), tmp_path / "wav" / "d.wav"
    soundfile.write(wav, torch.full((7999,), torch.nan), 16000, subtype="FLOAT")
    extract_conf = ExtractConf(skip=True)
    path = extract(data, conf["frontend_conf"], tmp_path / "feats", extract_conf)
    message = f"{texts}/speech_shape, found no 'd': {wav}: .*NaN.* Mend their audio"
    with pytest.raises(CacheError, match=message):
        losses(texts, conf, f"{path},speech,feature_cache", tmp_path / "exp")


def test_training_is_still_what_processes_are_started_with():
    """ESPnet sends it to one process for each GPU."""
    main_worker = pickle.loads(pickle.dumps(ASRTask.main_worker))
    assert main_worker == ASRTask.main_worker
    assert main_worker.checks_before_training


def test_layers_that_are_members_are_compared_one_by_one(data, tmp_path, models):
    ours, other = (models("Wav2Vec2", "large", flag) for flag in (False, True))
    layers = ExtractConf(layers="all")
    path = extract(data, {"upstreams": [ours]}, tmp_path / "feats", layers)

    def check(name, layer="weighted_sum"):
        upstream = {"name": name, "layer": layer}
        check_features([path], EnsembleFrontend(upstreams=[upstream]))

    check(ours)
    for wrong, message in (
        ((other,), "the weights are the same, but the features differ by"),
        ((models("Hubert"),), "fingerprint: expected"),
        ((ours, [0, 1, 3]), "expected the features of 1 upstreams"),
    ):
        with pytest.raises(CacheError, match=message):
            check(*wrong)
