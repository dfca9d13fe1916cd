#!/usr/bin/env python3
"""Train mini_synth with ESPnet2 and with ESPnet3: the same data, model, batches and seed.

Without dropout and without masks, as the two seed these in other ways (--random keeps them).
Prints the losses of each epoch, word error rates on the test set, and times. Needs ESPnet
202611 and the extra espnet3:

    python benchmarks/against_espnet2.py /tmp/work --train_minutes 10 --test_minutes 5 --epochs 8
"""

import argparse
import json
import re
import shutil
import time
from pathlib import Path

import torch
import yaml
from espnet2.bin import asr_train
from espnet3.systems.launch import launch

from espnet_ensemble.files import working_directory
from espnet_ensemble.integrations.espnet3.system import CONF_PACKAGE, EnsembleASRSystem

RECIPE = Path(__file__).parents[1] / "egs3" / "mini_synth" / "esp2_asr"
STAGES = [
    "create_dataset",
    "train_tokenizer",
    "collect_stats",
    "extract_feats",
    "train",
]
EXP2 = Path("exp") / "espnet2"
EXP3 = Path("exp") / "training"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where; data that are there are used")
    parser.add_argument("--train_minutes", type=float, default=10)
    parser.add_argument("--test_minutes", type=float, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--random", action="store_true", help="keep dropout and masks")
    args = parser.parse_args()
    recipe = args.folder / "egs3" / "mini_synth" / "esp2_asr"
    shutil.rmtree(recipe / "exp", ignore_errors=True)
    shutil.copytree(RECIPE, recipe, dirs_exist_ok=True)
    with working_directory(recipe):
        config = prepare(args)
        times3 = {stage: timed(run, [stage], "training") for stage in STAGES}
        paths = yaml.safe_load((EXP3 / "config.yaml").read_text())["dataset"]
        espnet2 = ["--config", "conf/espnet2.yaml", "--output_dir", str(EXP2)]
        Path("conf/espnet2.yaml").write_text(yaml.safe_dump(espnet2_config(config)))
        espnet2 += [x for split in ("train", "valid") for x in data(split, paths)]
        time2 = timed(asr_train.main, espnet2)
        report(times3, time2)


def prepare(args):
    """Write the recipe's configurations, smaller."""
    path = Path("conf/training.yaml")
    config = yaml.safe_load(path.read_text())
    test = args.test_minutes
    minutes = {"train": args.train_minutes, "dev": test, "test": test}
    # One core for either.
    config["create_dataset"] |= {"minutes": minutes, "nj": 1}
    config["feature_cache"]["nj"] = 1
    config["trainer"]["max_epochs"] = args.epochs
    if not args.random:
        del config["model"]["specaug"], config["model"]["specaug_conf"]
        for key in config["model"]["encoder_conf"]:
            if key.endswith("dropout_rate"):
                config["model"]["encoder_conf"][key] = 0.0
    path.write_text(yaml.safe_dump(config))
    path = Path("conf/inference.yaml")
    inference = yaml.safe_load(path.read_text())
    inference["parallel"] = {"options": {"processes": False}}
    for name, model in {
        "mean3": (EXP3, "valid.cer_ctc.ave_5best.pth"),
        "mean2": (EXP2, "valid.cer_ctc.ave_5best.pth"),
        "last3": (EXP3, "last.ckpt"),
        "last2": (EXP2, f"{args.epochs}epoch.pth"),
    }.items():
        inference["model"]["asr_train_config"] = str(model[0] / "config.yaml")
        inference["model"]["asr_model_file"] = str(model[0] / model[1])
        Path(f"conf/{name}.yaml").write_text(yaml.safe_dump(inference))
    return config


def espnet2_config(config):
    """The same training for ESPnet2."""
    model = dict(config["model"])
    model["token_list"] = "data/token_list/char/tokens.txt"
    batches = config["dataloader"]["train"]["iter_factory"]["batches"]
    return {
        **model,
        "token_type": "char",
        "batch_type": batches["type"],
        "batch_bins": batches["batch_bins"],
        "seed": config["seed"],
        "grad_clip": config["trainer"]["gradient_clip_val"],
        "max_epoch": config["trainer"]["max_epochs"],
        "best_model_criterion": [["valid", "cer_ctc", "min"]],
        "keep_nbest_models": 5,
        "num_att_plot": 0,
        "num_workers": 0,
        "use_matplotlib": False,
        "use_tensorboard": False,
        "optim": "adam",
        "optim_conf": {"lr": config["optimizer"]["lr"]},
        "scheduler": "warmuplr",
        "scheduler_conf": {"warmup_steps": config["scheduler"]["warmup_steps"]},
        "ngpu": 0,
    }


def data(split, dataset):
    """Options that name what ESPnet3 has trained from."""
    (entry,) = dataset[split]
    option = f"--{split}_data_path_and_name_and_type"
    args = entry["data_src_args"]
    return [
        *(option, f"{args['path']},speech,feature_cache"),
        *(option, f"{args['data_dir']}/text,text,text"),
        *(f"--{split}_shape_file", f"exp/stats/{split}/speech_shape"),
    ]


def run(stages, *configs):
    argv = ["--stages", *stages]
    for config in configs:
        role, _, name = config.partition("=")
        argv += [f"--{role}_config", f"conf/{name or role}.yaml"]
    launch(EnsembleASRSystem, conf_package=CONF_PACKAGE, argv=argv)


def timed(function, *args):
    begin = time.perf_counter()
    function(*args)
    return time.perf_counter() - begin


def report(times3, time2):
    log = (EXP3 / "train.log").read_text()
    found = re.findall(r"epoch_summary:(\d+)epoch:valid: .*?\bloss=([\d.e+-]+)", log)
    espnet3 = {int(epoch): float(loss) for epoch, loss in found}
    state = torch.load(EXP2 / "checkpoint.pth", weights_only=False)["reporter"]
    lines = ["", "epoch  ESPnet2  ESPnet3  (validation loss)"]
    for epoch, stats in state["stats"].items():
        lines.append(f"{epoch:5}  {stats['valid']['loss']:.5f}  {espnet3[epoch]:.5f}")
    for name in ("last2", "last3", "mean2", "mean3"):
        seconds = timed(run, ["infer"], "training", f"inference={name}")
        run(["measure"], "training", f"inference={name}", "metrics")
        metrics = json.loads((EXP3 / name / "metrics.json").read_text())
        rates = {k.rpartition(".")[2]: v["test"] for k, v in metrics.items()}
        lines.append(f"{name}: {rates}, decoded in {seconds:.1f} s")
    lines += [f"ESPnet3, {stage}: {seconds:.1f} s" for stage, seconds in times3.items()]
    lines.append(f"ESPnet2, training: {time2:.1f} s")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
