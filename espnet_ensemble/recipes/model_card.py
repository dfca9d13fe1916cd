"""The model card of a packed model: what it is, how good, made of what, and how it is used."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ensemble.analysis.bootstrap import draw_rates, interval
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, read_yaml
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.integrations.espnet2 import card
from espnet_ensemble.integrations.espnet2.manifest import Manifest
from espnet_ensemble.recipes import sclite
from espnet_ensemble.recipes.names import dataset_of
from espnet_ensemble.recipes.results import DatasetResult, read_results
from espnet_ensemble.recipes.scoring import score_tokens

_METRICS = ("wer", "cer")
_HEAD = {
    "tags": ["espnet", "espnet-ensemble", "audio", "automatic-speech-recognition"],
    "library_name": "espnet",
    "pipeline_tag": "automatic-speech-recognition",
}


@dataclass(frozen=True)
class CardSource:
    """What a model card tells of, beside the manifest.

    Attributes:
        config: The training configuration, in the folder of the experiment, where decodings
            are that have been scored.
        model: What users call the model: the archive's name, or its id on the hub.
    """

    config: Path
    model: str

    @property
    def exp_dir(self) -> Path:
        """The folder of the experiment."""
        return self.config.parent


def model_card(source: CardSource, manifest: Manifest) -> str:
    """Write the model card, as the Hugging Face hub takes it.

    Args:
        source: The experiment.
        manifest: What the archive says of its upstreams.

    Returns:
        Markdown, with the hub's YAML at its beginning.

    Raises:
        EnsembleError: If the configuration cannot be read.
    """
    config = read_yaml(source.config)
    parts = [
        card.front_matter(_HEAD, manifest),
        f"# {source.model}",
        _summary(config, manifest),
        "## Use",
        _use(source.model, manifest.fs),
        "## Upstreams",
        card.upstream_table(FrontendConf.parse(config["frontend_conf"]), manifest),
        "## Data",
        _data(config, manifest.fs),
        "## Error rates",
        _error_rates(source.exp_dir),
        "## How it was made",
        _making(source.exp_dir, manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(config: dict[str, Any], manifest: Manifest) -> str:
    conf = FrontendConf.parse(config["frontend_conf"])
    return (
        f"Speech recognition by {card.summary(conf)}, ESPnet's encoder "
        f"`{config.get('encoder')}` and CTC over tokens of the kind "
        f"`{config.get('token_type')}`. It takes speech of one channel at {manifest.fs} Hz."
    )


def _use(model: str, fs: int) -> str:
    return f"""\
With ESPnet-Ensemble installed (`pip install espnet-ensemble`, or `pip install .` in a checkout
of it), in one of three ways.

On the command line, for recordings of any format, sample rate and length:

```sh
espnet-ensemble transcribe {model} recording.wav
```

The same in Python:

```python
import espnet_ensemble

model = espnet_ensemble.pretrained("{model}")
print(model.transcribe(["recording.wav"])[0].text)
```

With ESPnet's own classes, for speech at {fs} Hz:

```python
import espnet_ensemble
import soundfile
from espnet2.bin.asr_inference import Speech2Text
from espnet_model_zoo.downloader import ModelDownloader

speech2text = Speech2Text(**ModelDownloader().download_and_unpack("{model}"))
speech, fs = soundfile.read("recording.wav")  # fs: {fs}
text, *_ = speech2text(speech)[0]
```"""


def _data(config: dict[str, Any], fs: int) -> str:
    rows = []
    for split, use in (("train", "training"), ("valid", "choice of the checkpoint")):
        for path, name, _ in config.get(f"{split}_data_path_and_name_and_type") or []:
            if name == "text":
                shapes = config.get(f"{split}_shape_file") or []
                rows.append(
                    [use, dataset_of(Path(path).parent.name), *_size(shapes, fs)]
                )
    recipe = "/".join(Path.cwd().parts[-2:])
    return f"Recipe: `{recipe}`\n\n" + card.table(
        rows, ["used for", "set", "utterances", "hours"]
    )


def _size(shape_files: Sequence[PathLike], fs: int) -> tuple[str, str]:
    """Utterances and hours, as far as ESPnet's files of lengths are still there."""
    if not shape_files or not Path(shape_files[0]).is_file():
        return "-", "-"
    lines = Path(shape_files[0]).read_text(encoding="utf-8").splitlines()
    lengths = [line.split()[-1] for line in lines if line.strip()]
    if not all(length.isdigit() for length in lengths):
        return str(len(lengths)), "-"
    return str(len(lengths)), f"{sum(map(int, lengths)) / fs / 3600:.2f}"


def _error_rates(exp_dir: Path) -> str:
    try:
        results = read_results(exp_dir)
    except EnsembleError:
        return "It has not been scored."
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for result in results:
        if result.metric in _METRICS:
            row = rows.setdefault((result.dataset, result.inference_tag), {})
            row[result.metric] = _rate(exp_dir, result)
            row["sentences"] = str(result.counts.sentences)
    table = [
        [dataset, tag, row["sentences"], *(row.get(metric, "-") for metric in _METRICS)]
        for (dataset, tag), row in sorted(rows.items())
    ]
    note = (
        "In percent, with the interval that holds 95 % of 10,000 bootstrap draws of the "
        "utterances."
    )
    return f"{card.table(table, ['set', 'decoding', 'utterances', 'WER', 'CER'])}\n\n{note}"


def _rate(exp_dir: Path, result: DatasetResult) -> str:
    rate = f"{result.percentages.errors:.1f}"
    folder = exp_dir / result.inference_tag / result.dataset / f"score_{result.metric}"
    if not (folder / "hyp.trn").is_file():
        return rate
    ref, hyp = (
        {
            key: words.split()
            for key, words in sclite.parse_trn(
                (folder / f"{name}.trn").read_text(encoding="utf-8")
            ).items()
        }
        for name in ("ref", "hyp")
    )
    score = score_tokens(ref, hyp, dict.fromkeys(ref, ""))
    counts = [u.counts for u in score.utterances if u.counts.words]
    if not counts:
        return rate
    rates = draw_rates(
        np.array([[c.errors] for c in counts]), np.array([c.words for c in counts])
    )
    found = interval(rates[:, 0])
    return f"{rate} ({found.low:.1f} to {found.high:.1f})"


def _making(exp_dir: Path, manifest: Manifest) -> str:
    commands = "\n".join(_commands(exp_dir))
    return (
        "The whole configuration is `config.yaml` beside the weights; versions of Python, "
        f"torch and ESPnet are in `meta.yaml`.\n\n{card.versions(manifest)}"
        + (f"\n\n```sh\n{commands}\n```" if commands else "")
    )


def _commands(exp_dir: Path) -> Iterator[str]:
    """The command of the training, which the first line of its log is."""
    log = exp_dir / "train.log"
    if log.is_file():
        with open(log, encoding="utf-8", errors="replace") as lines:
            first = lines.readline().strip()
        if first.startswith("# "):
            yield first.removeprefix("# ")
