"""The model of every system: its upstreams, and the features that reach what is trained.

Nothing is downloaded. The published checkpoints' architectures are written down here; a
stand-in has the feature size and the style of one, but next to no transformer.
"""

from copy import deepcopy

import pytest
import torch
import transformers
from espnet2.tasks.asr import ASRTask
from repository import REPOSITORY

from espnet_ensemble.recipes.tables.experiments import Experiment, Setup
from espnet_ensemble.recipes.tables.systems import read_experiment_table
from espnet_ensemble.testing.upstreams import save_huggingface, tiny_huggingface
from espnet_ensemble.upstream.checkpoints import CHECKPOINTS

SYSTEMS = [
    system
    for number in (1, 2, 3)
    for system in read_experiment_table(
        REPOSITORY / "conf" / "tables" / f"table{number}.yaml"
    ).systems
    # Other readings and fewer labels have no other models, but for the larger HuBERT.
    if system.part == "paper"
    or (system.size == "xlarge" and "hubert" in system.families and number == 2)
    or (system.part == "control" and system.head.layer != "last" and number == 2)
    or system.head.name == "transformer2_wide_ctc"
]

BASE = dict(hidden_size=768, num_hidden_layers=12, intermediate_size=3072)
LARGE = dict(hidden_size=1024, num_hidden_layers=24, intermediate_size=4096)
XLARGE = dict(hidden_size=1280, num_hidden_layers=48, intermediate_size=5120)
GROUP_NORM = dict(feat_extract_norm="group", do_stable_layer_norm=False)
LAYER_NORM = dict(feat_extract_norm="layer", do_stable_layer_norm=True)
# As in the config.json of each: family, size, and style of the feature extractor.
ARCHITECTURES = {
    "facebook/wav2vec2-base": ("Wav2Vec2", BASE, GROUP_NORM, False),
    "facebook/hubert-base-ls960": ("Hubert", BASE, GROUP_NORM, False),
    "microsoft/wavlm-base": ("WavLM", BASE, GROUP_NORM, False),
    "facebook/wav2vec2-large-lv60": ("Wav2Vec2", LARGE, LAYER_NORM, True),
    "facebook/hubert-large-ll60k": ("Hubert", LARGE, LAYER_NORM, True),
    "microsoft/wavlm-large": ("WavLM", LARGE, LAYER_NORM, False),
    "facebook/wav2vec2-large-960h-lv60-self": ("Wav2Vec2", LARGE, LAYER_NORM, True),
    "facebook/hubert-xlarge-ls960-ft": ("Hubert", XLARGE, LAYER_NORM, True),
    "facebook/hubert-xlarge-ll60k": ("Hubert", XLARGE, LAYER_NORM, True),
}
FAMILIES = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}
BLOCKS = {
    "ctc": 0,
    "transformer2_ctc": 2,
    "transformer2_wide_ctc": 2,
    "transformer8_ctc": 8,
    "superb_ctc": 0,
}


def expected_sizes(system):
    if system.size == "base":
        return [768] * len(system.families)
    if system.size == "large":
        return [1024] * len(system.families)
    sizes = {"wav2vec2": 1024, "hubert": 1280, "wavlm": 1024}
    return [sizes[family] for family in system.families]


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """A folder for each checkpoint: its family, style and feature size, one layer."""
    folder = tmp_path_factory.mktemp("checkpoints")
    saved = {}
    for name, (family, size, style, conv_bias) in ARCHITECTURES.items():
        model = tiny_huggingface(
            family,
            hidden_size=size["hidden_size"],
            num_hidden_layers=1,
            num_attention_heads=16,
            intermediate_size=8,
            num_conv_pos_embedding_groups=16,
            conv_bias=conv_bias,
            **style,
        )
        saved[name] = save_huggingface(folder / name.replace("/", "-"), model)
    return saved


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_are_those_of_the_checkpoints(name):
    """A model of the full architecture has the size that is published."""
    (published,) = [c for c in CHECKPOINTS if c.huggingface == name]
    family, size, style, conv_bias = ARCHITECTURES[name]
    heads = 12 if size is BASE else 16
    config = getattr(transformers, f"{family}Config")(
        **size, **style, num_attention_heads=heads, conv_bias=conv_bias
    )
    with torch.device("meta"):
        model = getattr(transformers, f"{family}Model")(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters / 1e6 == pytest.approx(published.parameters, abs=0.06)
    assert len(model.encoder.layers) == published.num_layers
    assert model.encoder.layer_norm.weight.shape == (published.feature_size,)


def test_systems_name_no_other_checkpoint():
    assert {name for system in SYSTEMS for name in system.upstreams} == set(
        ARCHITECTURES
    )


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: str(s).replace(" ", "-"))
def test_model(system, stand_ins):
    experiment = Experiment(REPOSITORY, system, Setup())
    config = deepcopy(experiment.training_config.content)
    entries = config["frontend_conf"]["upstreams"]
    upstreams = list(system.upstreams)
    assert [ARCHITECTURES[name][0] for name in upstreams] == [
        FAMILIES[family] for family in system.families
    ]
    tuned = [c.huggingface for c in CHECKPOINTS if c.fine_tuned]
    assert {name in tuned for name in upstreams} == {"finetuned" in system.size}

    config["frontend_conf"]["upstreams"] = [
        {**(entry if isinstance(entry, dict) else {}), "name": stand_ins[name]}
        for entry, name in zip(entries, upstreams, strict=True)
    ]
    # Whatever the weights are.
    config["init"] = None
    model = ASRTask.build_model(parse(config))
    sizes = expected_sizes(system)
    states = 1 if system.head.layer == "last" else 2
    assert model.frontend.feature_sizes == [[size] * states for size in sizes]
    assert config["frontend_conf"]["normalize"] == "utterance"
    assert model.specaug is None
    assert model.normalize is None
    assert model.frontend.output_size() == sum(sizes)
    assert len(getattr(model.encoder, "encoders", [])) == BLOCKS[system.head.name]
    ctc = model.ctc.ctc_lo.in_features
    if system.head.name == "ctc":
        assert ctc == sum(sizes)
    elif system.head.name == "superb_ctc":
        assert model.encoder.enc[0].nbrnn.input_size == sum(sizes) and ctc == 1024
    else:
        assert model.encoder.embed[0].in_features == sum(sizes)
        assert ctc == config["encoder_conf"]["output_size"]
    assert model.decoder is None
    assert not any("upstream" in name for name, _ in model.named_parameters())


def parse(config):
    """As training reads it."""
    parser = ASRTask.get_parser()
    parser.set_defaults(**config, token_list=["<blank>", "<unk>", "a", "<sos/eos>"])
    return parser.parse_args([])
