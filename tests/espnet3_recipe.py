"""A recipe of ESPnet3's, with noises for speech, in a folder of its own."""

from pathlib import Path

import yaml
from cache_runs import NUM_SAMPLES, write_noises

from espnet_ensemble.data.datadir import select, write
from espnet_ensemble.data.tables import read_table, write_table

TASK = "espnet3.systems.esp2_asr.task.ASRTask"
#: Those that are long enough for "hi".
UTT_IDS = ("a", "b", "d", "f")
_DATA_DIR = "espnet_ensemble.integrations.espnet3.data_dir"


def write_recipe(root: Path, upstreams, task=TASK, **training) -> Path:
    """Write data directories, tokens and configurations; return the recipe's folder.

    Args:
        root: Where.
        upstreams: Of the frontend.
        task: The task's class.
        training: More of the training configuration.
    """
    # ESPnet3 reads the names of corpus and system in the path.
    folder = root / "egs3" / "noises" / "esp2_asr"
    folder.mkdir(parents=True)
    data = write_noises(folder)
    tables = {name: read_table(data / name) for name in ("wav.scp", "utt2num_samples")}
    tables["text"] = {utt_id: "hi" for utt_id in UTT_IDS}
    tables["utt2spk"] = dict.fromkeys(UTT_IDS, "alice")
    write(data, select(tables, UTT_IDS))
    lengths = {utt_id: str(NUM_SAMPLES[utt_id]) for utt_id in UTT_IDS}
    write_table(folder / "speech_shape", lengths)
    (folder / "tokens.txt").write_text("<blank>\n<unk>\nh\ni\n<sos/eos>\n")
    entry = {"data_src": _DATA_DIR, "data_src_args": {"data_dir": str(data)}}
    numbered = {**entry["data_src_args"], "numbered": True}
    batches = {"type": "unsorted", "batch_size": 3, "shape_files": ["speech_shape"]}
    configs = {
        "training": {
            "task": task,
            "recipe_dir": str(folder),
            "dataset": {
                "train": [entry],
                "valid": [entry],
                "preprocessor": {
                    "_target_": "espnet2.train.preprocessor.CommonPreprocessor",
                    "token_type": "char",
                    "token_list": "tokens.txt",
                },
            },
            "create_dataset": {"func": None, "dataset_dir": None},
            "tokenizer": {
                "token_type": "char",
                "text": str(data / "text"),
                "save_path": str(folder),
            },
            "model": {
                "token_list": "tokens.txt",
                "frontend": "ensemble",
                "frontend_conf": {"upstreams": upstreams},
                "encoder": "transformer",
                "encoder_conf": {
                    "input_layer": "linear",
                    "output_size": 32,
                    "linear_units": 64,
                    "num_blocks": 1,
                },
                "decoder": None,
                "normalize": "utterance_mvn",
                "model_conf": {
                    "ctc_weight": 1.0,
                    "extract_feats_in_collect_stats": False,
                },
            },
            "optimizer": {"lr": 0.003},
            "scheduler": {"warmup_steps": 10},
            "seed": 1,
            "best_model_criterion": [["valid/cer_ctc", 2, "min"]],
            "dataloader": {
                split: {"iter_factory": {"shuffle": False, "batches": batches}}
                for split in ("train", "valid")
            },
            "parallel": None,
            "trainer": {
                "accelerator": "cpu",
                "max_epochs": 3,
                "log_every_n_steps": 1,
            },
            **training,
        },
        "inference": {
            "recipe_dir": str(folder),
            "dataset": {"test": [{"name": "test", **entry, "data_src_args": numbered}]},
            "model": {
                "_target_": "espnet_ensemble.integrations.espnet3.inference.CTCSpeech2Text",
                "asr_train_config": "${exp_dir}/config.yaml",
                "asr_model_file": "${exp_dir}/valid.cer_ctc.ave_2best.pth",
            },
            # A worker in this process: its own would import everything anew.
            "parallel": {"options": {"processes": False}},
        },
        "metrics": {},
        "publication": {"pack_model": {"include": [], "allow_overwrite": True}},
    }
    (folder / "conf").mkdir()
    for name, config in configs.items():
        (folder / "conf" / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return folder


def run(stages, *roles, system=None):
    """Run stages in the working directory, as ``run.py`` does.

    Args:
        stages: Their names.
        roles: Of the configurations that they take.
        system: Its class; None: ours.
    """
    from espnet3.systems.launch import launch

    from espnet_ensemble.integrations.espnet3.system import (
        CONF_PACKAGE,
        EnsembleASRSystem,
    )

    argv = ["--stages", *stages]
    for role in roles:
        argv += [f"--{role}_config", f"conf/{role}.yaml"]
    launch(system or EnsembleASRSystem, conf_package=CONF_PACKAGE, argv=argv)
