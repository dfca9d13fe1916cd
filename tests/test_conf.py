"""Every shared configuration file builds the model that it says, with ESPnet's parser."""

import pytest
import torch
import yaml
from espnet2.tasks.abs_task import scheduler_classes
from espnet2.tasks.asr import ASRTask
from repository import REPOSITORY

import espnet_ensemble  # noqa: F401
from espnet_ensemble.recipes.tables.variants import recommended

CONF = REPOSITORY / "conf"
TUNING = sorted((CONF / "tuning").glob("train_asr_*.yaml"))
FRONTENDS = sorted((CONF / "frontends").glob("*.yaml"))
TABLES = {
    "base": [
        "wavlm",
        "hubert",
        "wav2vec2",
        "wavlm_hubert",
        "wavlm_wav2vec2",
        "wav2vec2_hubert",
        "wav2vec2_hubert_wavlm",
    ],
    "finetuned_large": ["wav2vec2", "hubert", "wav2vec2_hubert"],
}
TABLES["large"] = TABLES["base"]
TABLES["xlarge"] = [name for name in TABLES["base"] if "hubert" in name]

BLOCKS = {
    "transformer2": 2,
    "transformer2_wide": 2,
    "transformer8": 8,
    "conformer": 4,
    "e_branchformer": 4,
}


def parse(tmp_path, *files, **overrides):
    conf = {}
    for file in files:
        conf.update(yaml.safe_load(file.read_text()))
    conf.update(overrides)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(conf))
    (tmp_path / "tokens.txt").write_text("<blank>\n<unk>\na\nb\n<sos/eos>\n")
    return ASRTask.get_parser().parse_args(
        ["--config", str(config), "--token_list", str(tmp_path / "tokens.txt")]
    )


@pytest.mark.parametrize("file", TUNING, ids=lambda f: f.stem)
def test_training(file, tmp_path, tiny_wavlm, tiny_hubert):
    upstreams = [tiny_wavlm, tiny_hubert]
    args = parse(tmp_path, file, frontend_conf={"upstreams": upstreams, "fs": "16k"})
    assert args.frontend == "ensemble"
    assert args.decoder is None
    assert args.model_conf["ctc_weight"] == 1.0
    assert args.model_conf["extract_feats_in_collect_stats"] is False

    model = ASRTask.build_model(args)
    assert model.decoder is None and model.ctc is not None
    blocks = len(getattr(model.encoder, "encoders", []))
    head = file.stem.removeprefix("train_asr_").removesuffix("_ctc")
    assert blocks == BLOCKS.get(head, 0)


@pytest.mark.parametrize("file", TUNING, ids=lambda f: f.stem)
def test_recommended_training(file, tmp_path, tiny_wavlm, tiny_hubert):
    """All of it trains: also the CTC in the middle, and the rate falls."""
    config = yaml.safe_load(file.read_text())
    config["frontend_conf"]["upstreams"] = [tiny_wavlm, tiny_hubert]
    derived = tmp_path / file.name
    derived.write_text(yaml.safe_dump(recommended(config, hours=0.1)))
    args = parse(tmp_path, derived)

    model = ASRTask.build_model(args)
    speech, text = torch.rand(2, 16000), torch.tensor([[2, 3], [3, 2]])
    lengths = torch.tensor([16000, 12000]), torch.tensor([2, 2])
    loss, stats, _ = model(speech, lengths[0], text, lengths[1])
    loss.backward()
    in_the_middle = f"loss_interctc_layer{args.encoder_conf.get('num_blocks', 0) // 2}"
    assert (in_the_middle in stats) == ("num_blocks" in args.encoder_conf)

    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weight], **args.optim_conf)
    scheduler = scheduler_classes[args.scheduler](optimizer, **args.scheduler_conf)
    rates = []
    num_batches = args.max_epoch * 0.1 * 3600 / 200
    for _ in range(round(1.05 * num_batches)):  # padding makes some more
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    peak = args.optim_conf["lr"]
    assert rates[0] < 0.01 * peak and max(rates) == pytest.approx(peak)
    falling = rates[rates.index(max(rates)) :]
    assert falling == sorted(falling, reverse=True) and rates[-1] < 0.05 * peak


def test_heads_of_the_tables_are_there():
    assert [file.stem for file in TUNING] == [
        "train_asr_conformer_ctc",
        "train_asr_ctc",
        "train_asr_e_branchformer_ctc",
        "train_asr_superb_ctc",
        "train_asr_transformer2_ctc",
        "train_asr_transformer2_wide_ctc",
        "train_asr_transformer8_ctc",
    ]


def test_combinations_of_the_paper_are_there():
    expected = {f"{size}_{name}" for size, names in TABLES.items() for name in names}
    assert {file.stem for file in FRONTENDS} == expected


@pytest.mark.parametrize("file", FRONTENDS, ids=lambda f: f.stem)
def test_frontend(file, tmp_path):
    from espnet_ensemble.upstream.checkpoints import CHECKPOINTS

    args = parse(tmp_path, CONF / "tuning" / "train_asr_transformer2_ctc.yaml", file)
    published = {c.huggingface: c for c in CHECKPOINTS}
    upstreams = [published[name] for name in args.frontend_conf["upstreams"]]
    families = [u.huggingface.split("/")[1].split("-")[0] for u in upstreams]
    _, _, names = (
        file.stem.rpartition("base_")
        if "base_" in file.stem
        else (file.stem.rpartition("large_"))
    )
    assert families == names.split("_")
    finetuned = [u.data for u in upstreams if u.fine_tuned]
    assert len(finetuned) == (len(upstreams) if "finetuned" in file.stem else 0)
    sizes = {768} if "base" in file.stem else {1024, 1280}
    assert {u.feature_size for u in upstreams} <= sizes
    assert args.frontend_conf["fusion"] == "concat"


def test_decoding():
    from espnet2.bin.asr_inference import get_parser

    args = get_parser().parse_args(
        [
            *["--config", str(CONF / "decode_asr_ctc.yaml"), "--output_dir", "x"],
            *["--data_path_and_name_and_type", "wav.scp,speech,sound"],
        ]
    )
    assert (args.ctc_weight, args.lm_weight, args.beam_size) == (1.0, 0.0, 20)
