"""The examples of docs/examples run, and learn."""

import importlib.util

import numpy as np
import pytest
import soundfile
import torch
from repository import REPOSITORY

from espnet_ensemble import EnsembleConfig, EnsembleModel

TONES = {"a": 200, "b": 500, "c": 1100, "d": 2300}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory, tiny_wavlm, tiny_hubert):
    """An encoder with a trained part: projections to one size."""
    torch.manual_seed(0)
    conf = {
        "upstreams": [
            {"name": tiny_wavlm, "layer": 1},
            {"name": tiny_hubert, "layer": 1},
        ],
        "fusion": "projection",
        "fusion_conf": {"proj_dim": 24},
        "normalize": "layer_norm",
    }
    folder = tmp_path_factory.mktemp("encoder")
    EnsembleModel(EnsembleConfig(frontend_conf=conf)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Sixteen words whose letters are tones."""
    folder = tmp_path_factory.mktemp("audio")
    random = np.random.RandomState(0)
    lines = []
    for number in range(16):
        word = "".join(random.choice(list(TONES), size=random.randint(2, 5)))
        time = np.arange(2400) / 16000
        tones = [0.3 * np.sin(2 * np.pi * TONES[x] * time) for x in word]
        pause = np.zeros(800)
        wav = np.concatenate([pause, *(p for x in tones for p in (x, pause))])
        wav += 0.01 * random.standard_normal(len(wav))
        soundfile.write(folder / f"{number}.wav", wav, 16000)
        lines.append(f"{folder / f'{number}.wav'}\t{word}\n")
    (folder / "table").write_text("".join(lines))
    return folder / "table"


def example(name):
    spec = importlib.util.spec_from_file_location(
        name, REPOSITORY / f"docs/examples/{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ctc_in_plain_pytorch(encoder, table, capsys):
    losses = example("ctc").main(encoder, table, epochs=10)
    assert losses[-1] < 0.7 * losses[0]
    assert capsys.readouterr().out.count("expected") == 4


def test_a_speechbrain_brain(encoder, table):
    pytest.importorskip("speechbrain")
    losses = example("speechbrain_ctc").main(encoder, table, epochs=10)
    assert losses[-1] < 0.7 * losses[0]


def test_a_projector_before_a_language_model(encoder, table, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokens = ["<pad>", "</s>", *TONES]
    tokenizer = Tokenizer(models.WordLevel({x: i for i, x in enumerate(tokens)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.add_special_tokens(tokens[:2])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>"
    ).save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    losses = example("speech_llm").main(encoder, tmp_path, table, epochs=10)
    assert losses[-1] < 0.9 * losses[0]
