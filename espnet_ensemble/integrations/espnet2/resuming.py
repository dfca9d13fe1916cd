"""Whether ESPnet's training goes on with the experiment that is in its folder."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from espnet2.utils.yaml_no_alias_safe_dump import yaml_no_alias_safe_dump

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import read_yaml

#: Beginnings of the names of options that may change when a training goes on: how long it
#: is, what it shows and keeps, where it runs, and where its data lie (their lengths, which
#: are compared, say which data).
FREE = (
    "best_model_criterion",
    "collect_stats",
    "config",
    "create_graph_in_tensorboard",
    "cudnn_",
    "ddp_comm_hook",
    "deepspeed_config",
    "detect_anomaly",
    "dist",
    "dry_run",
    "early_stopping_criterion",
    "gradient_as_bucket_view",
    "keep_nbest_models",
    "lightning_conf",
    "local_rank",
    "log_",
    "max_cache",
    "max_epoch",
    "multiprocessing_distributed",
    "nbest_averaging_interval",
    "ngpu",
    "num_att_plot",
    "num_cache_chunks",
    "num_workers",
    "output_dir",
    "patience",
    "print_config",
    "required",
    "resume",
    "save_strategy",
    "sharded_ddp",
    "train_data_path",
    "unused_parameters",
    "use_deepspeed",
    "use_matplotlib",
    "use_tensorboard",
    "use_tf32",
    "use_wandb",
    "valid_batch",
    "valid_data_path",
    "valid_max_cache",
    "version",
    "wandb_",
    "write_collected_feats",
)


def check_resumed(args: argparse.Namespace) -> None:
    """Refuse to go on with an experiment that was trained with other settings.

    ESPnet would take its weights and write the new settings beside them.

    Args:
        args: Options of ``espnet2.bin.asr_train`` or ``espnet2.bin.lightning_train``. Without
            the frontend ``ensemble``, without ``--resume``, or where nothing is trained yet,
            nothing is checked.

    Raises:
        EnsembleError: If settings differ that decide the weights. It names them.
    """
    folder = Path(args.output_dir)
    config = folder / "config.yaml"
    # With Lightning, ESPnet always goes on.
    resumes = args.resume and (folder / "checkpoint.pth").exists()
    resumes = resumes or (folder / "last.ckpt").exists()
    if getattr(args, "frontend", None) != "ensemble" or not (
        resumes and config.exists()
    ):
        return
    differences = list(settings_differences(read_yaml(config), _plain(args)))
    if differences:
        raise EnsembleError(
            f"{folder} was trained with other settings:\n  "
            + "\n  ".join(differences)
            + "\nGive the new experiment another folder (asr.sh: --asr_tag), or remove this "
            "one to train it anew"
        )


def settings_differences(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[str]:
    """Compare configurations by what decides the weights: all but :data:`FREE`.

    Args:
        before: The content of a ``config.yaml``.
        now: That of another.

    Yields:
        A line for each difference, such as "optim: 'adam' then, 'sgd' now".
    """
    before, now = _deciding(before), _deciding(now)
    # An option that only one of two versions of ESPnet has is no difference.
    for key in sorted(before.keys() & now.keys()):
        yield from _differences(key, before[key], now[key])


def _plain(args: argparse.Namespace) -> dict[str, Any]:
    """The options as ``config.yaml`` will have them."""
    options = yaml.safe_load(yaml_no_alias_safe_dump(vars(args)))
    tokens = options.get("token_list")
    if isinstance(tokens, str):  # ESPnet reads the file when it builds the model
        lines = Path(tokens).read_text(encoding="utf-8").splitlines()
        options["token_list"] = [line.rstrip() for line in lines]
    return options


def _deciding(options: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in options.items() if not key.startswith(FREE)}
    frontend = dict(found.get("frontend_conf") or {})
    # Where files of this machine are, decides nothing.
    for key in ("download_dir", "feature_cache"):
        frontend.pop(key, None)
    return {**found, "frontend_conf": frontend} if frontend else found


def _differences(key: str, was: Any, wanted: Any) -> Iterator[str]:
    if was == wanted:
        return
    if isinstance(was, dict) and isinstance(wanted, dict):
        for name in sorted(was.keys() | wanted.keys()):
            yield from _differences(f"{key}.{name}", was.get(name), wanted.get(name))
    else:
        yield f"{key}: {was!r} then, {wanted!r} now"
