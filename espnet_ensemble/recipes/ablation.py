"""What each member contributes: one model, decoded with some of its upstreams.

.. code-block:: none

    exp/asr_x/members_wavlm+hubert/test/{text,ctm,…}     an ordinary decoding with these two
"""

import shutil
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from tabulate import tabulate

from espnet_ensemble.decoding.datasets import DataSet, decode_set
from espnet_ensemble.decoding.decoder import DecodeConf, Decoder
from espnet_ensemble.decoding.greedy import GreedySearch
from espnet_ensemble.integrations.espnet2.model import ESPnetCTCModel
from espnet_ensemble.recipes.compare.comparison import Comparison
from espnet_ensemble.recipes.dataset_scoring import ScoringOptions, score_dataset
from espnet_ensemble.recipes.transcripts import read_transcripts

# Of what decoding leaves, what a decoding of stage 12 has.
_KEPT = ("text", "token", "token_int", "score", "ctm")


def leave_one_out(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All members, then all but each of them; one alone has no others.

    Example:
        >>> list(leave_one_out(["wavlm", "hubert"]))
        [('wavlm', 'hubert'), ('hubert',), ('wavlm',)]
    """
    yield tuple(names)
    if len(names) > 1:
        for left in names:
            yield tuple(name for name in names if name != left)


def all_subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every combination of members, the largest first.

    Example:
        >>> list(all_subsets(["wavlm", "hubert"]))
        [('wavlm', 'hubert'), ('wavlm',), ('hubert',)]
    """
    for size in range(len(names), 0, -1):
        yield from combinations(names, size)


def decode_subset(
    model: ESPnetCTCModel, members: Sequence[str], wav_scp: Path, folder: Path
) -> None:
    """Decode a dataset greedily with some members of a model.

    Args:
        model: The model; its members are then these.
        members: Some of its ``member_names``.
        wav_scp: The dataset's audio.
        folder: For the transcripts, such as ``exp/asr_x/members_wavlm/test``.

    Raises:
        EnsembleError: If the dataset cannot be read.
    """
    model.select_members(members)
    search = GreedySearch(model.vocabulary.blank_id)
    decoder = Decoder(model, search, DecodeConf(find_words=True))
    logdir = folder / "logdir"
    data = DataSet(str(wav_scp), "sound", str(logdir))
    decode_set(decoder, model, data, {"members": list(members), "search": search.name})
    for name in _KEPT:
        source = logdir / "1best_recog" / name
        if source.exists():
            shutil.copyfile(source, folder / name)


def decode_subsets(
    model: ESPnetCTCModel,
    subsets: Sequence[Sequence[str]],
    exp_dir: Path,
    dataset: str,
    data_dir: Path,
    options: ScoringOptions,
) -> list[Path]:
    """Decode a dataset with each of several subsets of a model's members, and score it.

    Args:
        model: The model.
        subsets: Some of its ``member_names`` each.
        exp_dir: Its experiment.
        dataset: Its name, such as ``org/dev``.
        data_dir: The folder with its data directory, such as ``dump/raw``.
        options: How it is scored.

    Returns:
        The decodings, such as ``exp/asr_x/members_wavlm``.

    Raises:
        EnsembleError: If the dataset cannot be read.
    """
    decodings = [exp_dir / f"members_{'+'.join(subset)}" for subset in subsets]
    for members, decoding in zip(subsets, decodings, strict=True):
        decode_and_score(model, members, decoding, dataset, data_dir, options)
    return decodings


def decode_and_score(
    model: ESPnetCTCModel,
    members: Sequence[str],
    decoding: Path,
    dataset: str,
    data_dir: Path,
    options: ScoringOptions,
) -> None:
    """Decode a dataset greedily with some members of a model, and score it.

    Args:
        model: The model; its members are then these.
        members: Some of its ``member_names``.
        decoding: The folder of the decoding, such as ``exp/asr_x/members_wavlm``.
        dataset: Its name, such as ``org/dev``.
        data_dir: The folder with its data directory, such as ``dump/raw``.
        options: How it is scored.

    Raises:
        EnsembleError: If the dataset cannot be read.
    """
    folder, data = decoding / dataset, data_dir / dataset
    decode_subset(model, members, data / "wav.scp", folder)
    texts = read_transcripts(data / "text", folder / "text", data / "utt2spk")
    score_dataset(texts, folder, options)


def contributions_table(comparison: Comparison, members: Sequence[str]) -> str:
    """Lay out what leaving members out costs, as :func:`contributions_rows` has it."""
    titles, lines = contributions_rows(comparison, members)
    align = ("left", "left", *["right"] * 4)
    return tabulate(lines, titles, "github", colalign=align, disable_numparse=True)


def contributions_rows(
    comparison: Comparison, members: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """What leaving members out costs.

    Args:
        comparison: The decodings of one model with subsets of its members; that with all
            of them is the baseline.
        members: All of them.

    Returns:
        Titles, and a line for each decoding.
    """
    whole = next(row for row in comparison.rows if row.p is None)
    lines = []
    for row in comparison.rows:
        used = row.name.removeprefix("members_").split("+")
        left_out = [name for name in members if name not in used]
        difference = "" if row is whole else f"{row.wer - whole.wer:+.2f}"
        p = "" if row.p is None else f"{row.p:.4f}"
        span = f"{row.interval.low:.2f} to {row.interval.high:.2f}"
        without = ", ".join(left_out) or "nothing"
        lines.append([", ".join(used), without, f"{row.wer:.2f}", span, difference, p])
    titles = ["members", "left out", "WER", "95 %", "against all", "p"]
    return titles, lines
