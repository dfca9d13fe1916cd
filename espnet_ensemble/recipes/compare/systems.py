"""Systems to compare: what each recognised, and how their configurations differ."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import read_yaml
from espnet_ensemble.recipes.combination import COMBINATION
from espnet_ensemble.recipes.results import read_scored_words
from espnet_ensemble.recipes.scoring import Score, Tokens, score_tokens

# Names of files and folders, which differ whenever anything does.
_NAMES = ("config", "output_dir", "decodings")
_NAMES_END = ("_data_path_and_name_and_type", "_shape_file")


@dataclass(frozen=True)
class System:
    """What one system made of a dataset.

    Attributes:
        decoding: Folder of the decoding, such as ``exp/asr_x/decode_y``.
        score: Its words beside the reference's.
    """

    decoding: Path
    score: Score

    @property
    def wer(self) -> float:
        """Word error rate in percent, not rounded."""
        return 100 * self.score.counts.errors / self.score.counts.words


def read_systems(decodings: Sequence[Path], dataset: str) -> list[System]:
    """Read what several systems made of a dataset, and compare it with the references.

    Returns:
        In the order of ``decodings``, all of the same utterances in the same order.

    Raises:
        EnsembleError: If one is not scored, their references differ, or there are no words.
    """
    first = read_scored_words(decodings[0] / dataset)
    if not any(first.ref.values()):
        raise EnsembleError(f"{decodings[0] / dataset}: expected words, found none")
    systems = []
    for decoding in decodings:
        words = read_scored_words(decoding / dataset)
        _check_same(first.ref, words.ref, decodings[0] / dataset, decoding / dataset)
        systems.append(
            System(decoding, score_tokens(first.ref, words.hyp, first.utt2spk))
        )
    return systems


def name_systems(decodings: Sequence[Path]) -> list[str]:
    """Name systems by their folders, without what the folders of all have in common.

    Example:
        >>> name_systems([Path("exp/asr_x/decode"), Path("exp/asr_y/decode")])
        ['asr_x', 'asr_y']
        >>> name_systems([Path("exp/asr_x/decode_1"), Path("exp/asr_x/decode_2")])
        ['decode_1', 'decode_2']
    """
    if len({decoding.name for decoding in decodings}) == 1:
        decodings = [decoding.parent for decoding in decodings]
    if len(set(decodings)) == 1:
        return [decoding.name for decoding in decodings]
    common = os.path.commonpath([os.path.abspath(folder) for folder in decodings])
    return [os.path.relpath(decoding, common) for decoding in decodings]


def differences(decodings: Sequence[Path]) -> dict[str, list[str]]:
    """What differs in the configurations of systems, of those that have one.

    Names of files and folders are left out.

    Args:
        decodings: Folders of decodings, in folders of experiments.

    Returns:
        Key, such as ``optim_conf.lr`` -> what each system has there, "" if nothing.
    """
    names: list[dict[str, str] | None]
    names = [{"decoding": decoding.name} for decoding in decodings]
    trainings = [_settings(decoding.parent / "config.yaml") for decoding in decodings]
    combinations = [_settings(decoding / COMBINATION) for decoding in decodings]
    rows = {}
    for settings in (names, trainings, combinations):
        found = [setting for setting in settings if setting is not None]
        for key in dict.fromkeys(key for setting in found for key in setting):
            if len({setting.get(key, "") for setting in found}) > 1:
                rows[key] = [(setting or {}).get(key, "") for setting in settings]
    return rows


def _check_same(one: Tokens, other: Tokens, first: Path, second: Path) -> None:
    for utt_id in one.keys() | other.keys():
        if one.get(utt_id) != other.get(utt_id):
            found = (" ".join(refs.get(utt_id, ["nothing"])) for refs in (one, other))
            raise EnsembleError(
                f"{second}: expected the references of {first}; {utt_id} is "
                "{!r} there, {!r} here: score both alike".format(*found)
            )


def _settings(path: Path) -> dict[str, str] | None:
    """A configuration, flat; None if there is none."""
    return dict(_flatten(read_yaml(path))) if path.exists() else None


def _flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if name in _NAMES or name.endswith(_NAMES_END):
            continue
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{name}.")
        else:
            yield name, _show(value)


def _show(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return text.strip().removeprefix("[").removesuffix("]")
