"""A trained ensemble that runs one member only, and predicts the features of the others.

.. code-block:: none

    exp/asr_x_effuse/effuse/{train.yaml,init.pth,prediction.json}   what it is trained with
    exp/asr_x_effuse/{config.yaml,*.pth}                            an ordinary experiment
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.tasks.asr import ASRTask
from torch import Tensor
from tqdm import tqdm

from espnet_ensemble.analysis.features import LayerFeatures, extract_layers
from espnet_ensemble.analysis.moments import Moments
from espnet_ensemble.analysis.ridge import (
    Fold,
    Ridge,
    cross_validated_r2,
    fit_ridge,
)
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache.extract import ExtractConf, extract_sets
from espnet_ensemble.files import atomic_write, read_yaml, write_text, write_yaml
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.fusion import FUSIONS
from espnet_ensemble.integrations.espnet2.model import ESPnetCTCModel, load_ctc_model

_log = logging.getLogger(__name__)

#: Parts of the utterances to cross-validate.
FOLDS = 4
#: Inputs of the regression, at most: it needs the square of their number in memory.
MAX_INPUTS = 8192
#: What the new model has of the old one's frontend.
_REPLACED = (
    "frontend.fingerprints",
    "frontend.probes",
    "frontend.layers.",
    "frontend.member_warmup.",
)


@dataclass(frozen=True)
class EffuseConf:
    """How a member is chosen, and the head fine-tuned.

    Attributes:
        member: The member that stays, as ``member_names`` calls it; None: the one that
            predicts the others best.
        num_layers: Its hidden states that predict, at most, evenly spread; None: as many as are
            within :data:`MAX_INPUTS`.
        epochs: Of fine-tuning.
        lr_factor: Its learning rate, in parts of that of the training.
    """

    member: str | None = None
    num_layers: int | None = None
    epochs: int = 5
    lr_factor: float = 0.3

    def __post_init__(self):
        for name in ("epochs", "lr_factor"):
            if not getattr(self, name) > 0:
                raise EnsembleError(
                    f"{name}: expected a number above 0, found {getattr(self, name)}"
                )


@dataclass(frozen=True)
class Predictor:
    """What predicts the other members' features from one member's hidden states.

    Attributes:
        member: Its place.
        layers: The hidden states that it takes.
        r2: Share of the others' variance that is predicted, in cross-validation.
        penalty: The ridge regression's.
        folds: Moments that it is fitted of.
    """

    member: int
    layers: list[int]
    r2: float
    penalty: float
    folds: list[Fold]


def load_ensemble(exp_dir: Path, checkpoint: str) -> ESPnetCTCModel:
    """Load a trained ensemble whose members can be predicted.

    Raises:
        EnsembleError: If it is none, or its members cannot.
    """
    model = load_ctc_model(None, exp_dir / checkpoint)
    names = model.member_names  # refuses other frontends
    conf = FrontendConf.parse(model.config.frontend_conf)
    reason = None
    if len(names) < 2:
        reason = f"at least two upstreams, found {len(names)}"
    elif not conf.frozen:
        reason = (
            "upstreams that keep their weights (frozen: true), found some that train"
        )
    elif conf.frame_rate is not None:
        reason = f"no frame_rate, found {conf.frame_rate:g}"
    elif FUSIONS[conf.fusion].takes_layers:
        reason = f"a fusion of one hidden state of each, found {conf.fusion!r}"
    if reason:
        raise EnsembleError(
            f"{exp_dir / 'config.yaml'}: frontend_conf: expected {reason}"
        )
    return model


class Effusion:
    """One trained ensemble, on its way to one upstream.

    Args:
        model: The ensemble.
        exp_dir: Its experiment.
        checkpoint: Its weights.
        train_dir: Data directory of the training set, such as ``dump/raw/train``.
        valid_dir: Of the validation set.
        cache_dir: The feature cache.
        extraction: How features are extracted, where they are missing.
        conf: What else is asked for.

    Raises:
        EnsembleError: If features cannot be had.
    """

    def __init__(
        self,
        model: ESPnetCTCModel,
        exp_dir: Path,
        checkpoint: str,
        train_dir: Path,
        valid_dir: Path,
        cache_dir: Path,
        extraction: ExtractConf,
        conf: EffuseConf,
    ):
        self._frontend = model.model.frontend
        self._exp_dir, self._checkpoint = exp_dir, checkpoint
        self._sets, self._cache_dir = [train_dir, valid_dir], cache_dir
        self._extraction, self._conf = extraction, conf
        self.frontend_conf = FrontendConf.parse(model.config.frontend_conf)
        self.names = model.member_names
        self._layers = extract_layers(
            train_dir, self.frontend_conf, cache_dir, extraction
        )

    def choose(self) -> list[Predictor]:
        """Fit predictors from each member that can stay; the best comes first.

        Raises:
            EnsembleError: If the one that is asked for cannot.
        """
        hops = [layers[0].identity.hop_length for layers in self._layers]
        candidates = [i for i, hop in enumerate(hops) if hop == min(hops)]
        if self._conf.member is not None:
            (asked,) = self.frontend_conf.find_members([self._conf.member])
            if asked not in candidates:
                raise EnsembleError(
                    f"member: expected one of {self._names_of(candidates)}, whose frames are "
                    f"as many as the ensemble's, found {self._conf.member!r}"
                )
            candidates = [asked]
        found = [self._predictor(member) for member in candidates]
        return sorted(found, key=lambda predictor: -predictor.r2)

    def _names_of(self, members: Sequence[int]) -> str:
        return ", ".join(self.names[i] for i in members)

    def _own(self, member: int) -> list[LayerFeatures]:
        wanted = self._frontend.upstreams[member].layers
        return [x for n in wanted for x in self._layers[member] if x.layer == n]

    def _inputs(self, member: int) -> list[LayerFeatures]:
        """Its own layers, and others evenly spread."""
        every = self._layers[member]
        most = self._conf.num_layers or max(1, MAX_INPUTS // every[0].size)
        own = {layer.layer for layer in self._own(member)}
        count = max(0, min(most, len(every)) - len(own))
        others = [layer for layer in every if layer.layer not in own]
        spread = np.linspace(0, len(others) - 1, count).round().astype(int).tolist()
        chosen = own.union(others[i].layer for i in spread)
        return [layer for layer in every if layer.layer in chosen]

    def _features(self, member: int, key: str) -> np.ndarray:
        """What the ensemble's fusion gets of a member, (frames, features)."""
        states = [torch.from_numpy(x.read(key))[None] for x in self._own(member)]
        with torch.no_grad():
            return self._frontend.layers[member](states)[0].numpy()

    def _predictor(self, member: int) -> Predictor:
        inputs = self._inputs(member)
        others = [i for i in range(len(self.names)) if i != member]
        num_inputs = sum(layer.size for layer in inputs)
        num_targets = sum(self._own(i)[0].size for i in others)
        folds = [
            Fold(
                Moments.zeros(num_inputs, num_inputs),
                Moments.zeros(num_inputs, num_targets),
                np.zeros(num_targets),
            )
            for _ in range(FOLDS)
        ]
        keys = list(inputs[0].utterances)
        name = f"prediction from {self.names[member]}"
        for number, key in enumerate(tqdm(keys, name, disable=None)):
            x = np.concatenate([layer.read(key) for layer in inputs], axis=1)
            y = np.concatenate([self._features(i, key) for i in others], axis=1)
            fold = folds[number % FOLDS]
            fold.xx.add(x, x)
            fold.xy.add(x, y)
            fold.yy[:] += np.square(y, dtype=np.float64).sum(axis=0)
        r2, penalty = cross_validated_r2([fold for fold in folds if fold.xx.count])
        return Predictor(member, [layer.layer for layer in inputs], r2, penalty, folds)

    def prepare(self, predictor: Predictor, output_dir: Path) -> Path:
        """Write what ESPnet's training makes the new experiment of.

        Returns:
            Its configuration.
        """
        folder = output_dir / "effuse"
        folder.mkdir(parents=True, exist_ok=True)
        ridge = fit_ridge(reduce(add, predictor.folds), predictor.penalty)
        with atomic_write(folder / "init.pth") as part:
            torch.save(self._weights(predictor, ridge), part)
        about = {
            "member": self.names[predictor.member],
            "layers": predictor.layers,
            "r2": predictor.r2,
            "penalty": predictor.penalty,
        }
        write_text(folder / "prediction.json", json.dumps(about, indent=1) + "\n")
        path = folder / "train.yaml"
        write_yaml(path, self._config(predictor, output_dir, folder / "init.pth"))
        return path

    def new_frontend_conf(self, predictor: Predictor) -> dict[str, Any]:
        """The frontend with one upstream: plain values."""
        conf, member = self.frontend_conf, predictor.member
        upstream = {
            key: value
            for key, value in vars(conf.upstreams[member]).items()
            if value is not None
        }
        own = [predictor.layers.index(layer.layer) for layer in self._own(member)]
        fusion_conf = {
            "predicted": {
                i: self._own(i)[0].size for i in range(len(self.names)) if i != member
            },
            "own_layers": [own],
            "fusion": conf.fusion,
            "fusion_conf": dict(conf.fusion_conf),
        }
        kept = ("normalize", "fs", "dtype", "download_dir")
        return {
            "upstreams": [{**upstream, "layer": predictor.layers}],
            "fusion": "prediction",
            "fusion_conf": fusion_conf,
            **{name: getattr(conf, name) for name in kept},
        }

    def _config(
        self, predictor: Predictor, output_dir: Path, init: Path
    ) -> dict[str, Any]:
        known = {action.dest for action in ASRTask.get_parser()._actions}
        old = read_yaml(self._exp_dir / "config.yaml")
        frontend_conf = self.new_frontend_conf(predictor)
        paths = extract_sets(
            self._sets,
            frontend_conf,
            self._cache_dir,
            ExtractConf(self._extraction.storage, workers=self._extraction.workers),
        )
        sources = {
            f"{split}_data_path_and_name_and_type": [
                [str(path), "speech", "feature_cache"],
                [str(folder / "text"), "text", "text"],
            ]
            for split, path, folder in zip(
                ("train", "valid"), paths, self._sets, strict=True
            )
        }
        optim_conf = dict(old.get("optim_conf") or {})
        optim_conf["lr"] = self._conf.lr_factor * optim_conf.get("lr", 1e-3)
        new = {
            **{key: value for key, value in old.items() if key in known},
            **sources,
            "frontend_conf": frontend_conf,
            "init_param": [str(init)],
            "max_epoch": self._conf.epochs,
            "optim_conf": optim_conf,
            "scheduler": None,
            "scheduler_conf": {},
            "output_dir": str(output_dir),
        }
        new.pop("config", None)
        return new

    def _weights(self, predictor: Predictor, ridge: Ridge) -> Mapping[str, Tensor]:
        path = self._exp_dir / self._checkpoint
        old = torch.load(path, map_location="cpu", weights_only=True)
        new, inner = {}, "frontend.fusion."
        for key, value in old.items():
            if key.startswith(inner):
                key = f"{inner}inner.{key.removeprefix(inner)}"
            if not key.startswith(_REPLACED):
                new[key] = value
        own = old.get(f"frontend.layers.{predictor.member}.weights")
        if own is not None:
            new[f"{inner}own.0.weights"] = own
        first = 0
        for place in range(len(self.names)):
            if place == predictor.member:
                continue
            last = first + self._own(place)[0].size
            name = f"{inner}predictors.{place}"
            new[f"{name}.weight"] = _float(ridge.weight[:, first:last].T)
            new[f"{name}.bias"] = _float(ridge.bias[first:last])
            first = last
        return new


def _float(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float()


def count_parameters(model: ESPnetCTCModel) -> int:
    """Of the whole model, with its upstreams."""
    upstreams = model.model.frontend.upstreams
    modules = {id(m): m for m in (model.model, *upstreams)}.values()
    parameters = {id(p): p for module in modules for p in module.parameters()}
    return sum(math.prod(p.shape) for p in parameters.values())
