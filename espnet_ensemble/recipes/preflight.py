"""What can be known to go wrong in ``asr.sh`` before its first stage runs."""

import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import soundfile

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import read_yaml
from espnet_ensemble.frontend_conf import FrontendConf, parse_fs
from espnet_ensemble.recipes.names import AsrNames
from espnet_ensemble.recipes.options import split_words
from espnet_ensemble.recipes.training_config import TrainingConfig
from espnet_ensemble.upstream.registry import check_upstream

# Where ESPnet's training declares its options.
_DECLARING = ("espnet2.tasks.abs_task", "espnet2.tasks.asr")
# A checkpoint that was chosen among epochs: valid.acc.best.pth, valid.acc.ave_5best.pth.
_CHOSEN = re.compile(r"(train|valid)\.(\w+)\.(?:best|ave(?:_\d+best)?)\.pth")
# ESPnet's best_model_criterion, where the configuration has none.
_CRITERIA = [["train", "loss"], ["valid", "loss"], ["train", "acc"], ["valid", "acc"]]
# Stages that load the upstreams as the training configuration says.
_TRAINING = frozenset({10, 11})


@dataclass(frozen=True)
class Plan:
    """What ``asr.sh`` is about to do.

    Attributes:
        stages: The stages that it will run.
        train_set: Training set, a folder of ``names.data_feats``.
        valid_set: Validation set, likewise.
        eval_sets: What it decodes, likewise.
        fs: Sample rate, such as "16k".
        asr_args: Options that override the training configuration.
        inference_config: Decoding configuration; "": none.
        inference_asr_model: Checkpoint to decode with.
        cache_feats: Whether features are computed once.
        ngpu: GPUs of a machine that trains.
        num_nodes: Machines that train.
        gpu_inference: Whether decoding is on GPUs.
        cuda_cmd: What runs the jobs that need a GPU.
        use_ngram: "true": decoding is with an n-gram language model.
    """

    stages: Collection[int]
    train_set: str
    valid_set: str
    eval_sets: Sequence[str]
    fs: str
    asr_args: str
    inference_config: str
    inference_asr_model: str
    cache_feats: bool
    ngpu: int
    num_nodes: int
    gpu_inference: bool
    cuda_cmd: str
    use_ngram: str


def check_plan(plan: Plan, config: TrainingConfig, names: AsrNames) -> None:
    """Refuse what would fail in one of the stages.

    Of an input that is missing, the stage itself says which stage makes it.

    Args:
        plan: What is to be done.
        config: The training configuration, with all that options say of the frontend.
        names: The folders.

    Raises:
        EnsembleError: If there are problems. It tells all of them.
    """
    problems = list(
        chain(
            _folders(names),
            _configuration(plan, config),
            _upstreams(plan, config),
            _sample_rates(plan, names),
            _statistics(plan, names),
            _gpus(plan),
        )
    )
    if len(problems) == 1:
        raise EnsembleError(problems[0])
    if problems:
        listing = "\n".join(f"- {problem}" for problem in problems)
        raise EnsembleError(f"{len(problems)} problems\n{listing}")


def _folders(names: AsrNames) -> Iterator[str]:
    """Folders that jobs, and lists that ESPnet takes, would misread."""
    for folder in (names.data_feats, names.asr_exp, names.asr_stats_dir):
        if "JOB" in folder:
            yield f"{folder}: expected another name: JOB becomes the number of a job"
    if "," in names.data_feats:
        yield f"{names.data_feats}: expected a name without comma, which ESPnet splits at"


def _configuration(plan: Plan, config: TrainingConfig) -> Iterator[str]:
    if _TRAINING.intersection(plan.stages):
        options = [w for w in split_words("asr_args", plan.asr_args) if w[:2] == "--"]
        given = [option[2:].partition("=")[0] for option in options]
        if "config" in given:
            yield "--asr_args: --config is for --asr_config to give"
        unknown = unknown_options([*config.content, *given])
        if unknown:
            yield (
                f"training configuration: {', '.join(unknown)}: ESPnet's training has no "
                "such option"
            )
        if 11 in plan.stages and "best_model_criterion" not in given:
            yield from _checkpoint(plan.inference_asr_model, config)
        conf = config.frontend_conf()
        if plan.cache_feats and (conf is None or not conf.frozen):
            found = "frozen: false" if conf else config.content.get("frontend")
            yield (
                "--cache_feats true: expected frontend: ensemble with frozen upstreams, "
                f"found {found}; give --cache_feats false"
            )
    if plan.inference_config and 12 in plan.stages:
        yield from _message(read_yaml, plan.inference_config)
    if plan.use_ngram == "true" and 12 in plan.stages:
        # It brings torch, which takes seconds.
        from espnet_ensemble.decoding.scorers import import_kenlm

        yield from _message(import_kenlm)


def _checkpoint(name: str, config: TrainingConfig) -> Iterator[str]:
    """A checkpoint that training chooses by what it is not told to look at."""
    chosen = _CHOSEN.fullmatch(name)
    criteria = config.content.get("best_model_criterion") or _CRITERIA
    if chosen is None or chosen.groups() in [tuple(c[:2]) for c in criteria]:
        return
    names = [f"{phase}.{criterion}.ave.pth" for phase, criterion, *_ in criteria]
    yield (
        f"--inference_asr_model {name}: expected a checkpoint that best_model_criterion of "
        f"the training configuration chooses, such as {names[-1]}; give that, or add "
        f"[{', '.join(chosen.groups())}, ...] to best_model_criterion"
    )


def unknown_options(names: Iterable[str]) -> list[str]:
    """Which names are no options of ``espnet2.bin.asr_train``, nor beginnings of some.

    Args:
        names: As in a configuration, without hyphens.
    """
    sources = "".join(_source(module) for module in _DECLARING)
    suspects = [name for name in names if not _is_declared(name, sources)]
    if not suspects:
        return []
    # ESPnet knows for certain, and takes ten seconds to say so.
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        from espnet2.bin.asr_train import get_parser

        known = vars(get_parser().parse_args([]))
    return [s for s in suspects if not any(name.startswith(s) for name in known)]


def _is_declared(option: str, sources: str) -> bool:
    name = option.removesuffix("_conf")
    # "--max_epoch"; ClassChoices("encoder"); f"--optim{suf}_conf"
    forms = (f'"--{option}"', f'"{name}"', f'"--{name}{{')
    return any(form in sources for form in forms)


def _source(module: str) -> str:
    package, _, rest = module.partition(".")
    spec = find_spec(package)  # of a submodule, it would import the package
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).parent.joinpath(*rest.split("."))
    return path.with_suffix(".py").read_text(encoding="utf-8")


def _upstreams(plan: Plan, config: TrainingConfig) -> Iterator[str]:
    conf = config.frontend_conf()
    if conf is None or not _TRAINING.intersection(plan.stages):
        return
    for upstream in conf.upstreams:
        yield from _message(check_upstream, upstream, conf.download_dir)


def _sample_rates(plan: Plan, names: AsrNames) -> Iterator[str]:
    """Audio that is not as it is meant to be, and speech that is not as the model's."""
    fs, dump = parse_fs(plan.fs), Path(names.data_feats)
    formats = 3 in plan.stages
    for name in (plan.train_set, plan.valid_set):
        folders = [dump / "org" / name] if 4 in plan.stages else []
        folders += [dump / name] if _TRAINING.intersection(plan.stages) else []
        for folder in [] if formats else folders:
            found = _sample_rate(folder)
            if found not in (None, fs):
                yield (
                    f"{folder}: expected audio at {fs} Hz (--fs), found {found} Hz; give "
                    f"--fs {found}, or begin with stage 3, which makes it anew"
                )
    if 12 not in plan.stages or 11 in plan.stages:
        return
    config = Path(names.asr_exp, "config.yaml")
    expected = _model_rate(config) if config.exists() else None
    for name in plan.eval_sets:
        found = fs if formats else _sample_rate(dump / name)
        if expected and found not in (None, expected):
            yield (
                f"{dump / name}: expected audio at {expected} Hz, as the model "
                f"({config}) was trained on, found {found} Hz"
                + (" (--fs)" if formats else "")
                + f"; begin with stage 3 and --fs {expected}, which makes it anew"
            )


def _sample_rate(data_dir: Path) -> int | None:
    """That of the first utterance; None if there is none that can be read."""
    try:
        with open(data_dir / "wav.scp", encoding="utf-8") as table:
            return soundfile.info(
                table.readline().split(maxsplit=1)[1].strip()
            ).samplerate
    except (OSError, IndexError, UnicodeError, soundfile.SoundFileError):
        return None


def _model_rate(config: Path) -> int | None:
    content = read_yaml(config)
    if content.get("frontend") == "ensemble":
        return FrontendConf.parse(content["frontend_conf"]).fs
    fs = (content.get("frontend_conf") or {}).get("fs")
    return parse_fs(fs) if isinstance(fs, str) else fs


def _statistics(plan: Plan, names: AsrNames) -> Iterator[str]:
    """Statistics that are there, and are of other utterances than those to train on."""
    if 11 not in plan.stages or {3, 4, 10}.intersection(plan.stages):
        return
    for split, name in (("train", plan.train_set), ("valid", plan.valid_set)):
        shapes = Path(names.asr_stats_dir, split, "speech_shape")
        text = Path(names.data_feats, name, "text")
        if shapes.exists() and text.exists() and _keys(shapes) != _keys(text):
            yield (
                f"{shapes}: expected the utterances of {text}, found others; begin with "
                "stage 10, which makes it anew"
            )


def _keys(path: Path) -> set[str]:
    with open(path, encoding="utf-8") as table:
        return {line.split(maxsplit=1)[0] for line in table if line.strip()}


def _gpus(plan: Plan) -> Iterator[str]:
    """GPUs that there are not; on a cluster, they are on other machines."""
    if Path(plan.cuda_cmd.partition(" ")[0]).name != "run.pl":
        return
    wanted = plan.ngpu if 11 in plan.stages and plan.num_nodes == 1 else 0
    decodes = plan.gpu_inference and 12 in plan.stages
    if not (wanted or decodes):
        return
    import torch

    found = torch.cuda.device_count()
    if found < wanted:
        yield (
            f"--ngpu {wanted}: expected so many GPUs on this machine, to train on "
            f"(stage 11), found {found}; --ngpu 0 trains on the CPU"
        )
    if decodes and not found:
        yield (
            "--gpu_inference true: expected a GPU on this machine, to decode on (stage "
            "12), found none; --gpu_inference false decodes on the CPU"
        )


def _message(work: Callable, *args: Any) -> Iterator[str]:
    """What is wrong, if anything is."""
    try:
        work(*args)
    except EnsembleError as error:
        yield str(error)
