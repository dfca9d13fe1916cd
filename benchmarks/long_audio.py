#!/usr/bin/env python3
"""Long audio: what cutting it in pauses costs and changes.

Ten utterances of a set are put one after the other, with a pause between them and without.
The transcript of that is compared with theirs: whole, in segments, and in segments that are
cut where utterances meet. Then so many hours are decoded, for the memory. It needs an
experiment, such as the quick start's, and Linux.

    cd egs2/mini_synth/asr1
    python ../../../benchmarks/long_audio.py exp/asr_*/valid.cer_ctc.ave.pth dump/raw/test
"""

import argparse
import logging
import re
import time
import warnings
from itertools import chain
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from espnet_ensemble.decoding.decoder import DecodeConf, Decoded, Decoder
from espnet_ensemble.decoding.greedy import GreedySearch
from espnet_ensemble.decoding.long_audio import LongAudioConf
from espnet_ensemble.decoding.sources import AudioFiles
from espnet_ensemble.integrations.espnet2.model import ESPnetCTCModel, load_ctc_model
from espnet_ensemble.recipes.scoring import align, count

# Of the noise in a pause: about that of silence in the quick start's speech.
_PAUSE_LEVEL = 1e-3


class Speech:
    """A source of recordings that are in memory."""

    def __init__(self, recordings: list[Tensor], fs: int):
        self.items_per_second = float(fs)
        self._samples = {f"{i:05}": x for i, x in enumerate(recordings)}
        self.lengths = {utt_id: len(x) for utt_id, x in self._samples.items()}

    def read(self, utt_id: str) -> Tensor:
        """Give one."""
        return self._samples[utt_id]


def decode(
    model: ESPnetCTCModel, recordings: list[Tensor], conf: LongAudioConf
) -> list[list[str]]:
    """Decode recordings to words."""
    search = GreedySearch(model.vocabulary.blank_id)
    decoder = Decoder(model, search, DecodeConf(long_audio=conf))
    words = {}
    for result in decoder.decode(Speech(recordings, model.fs)):
        assert isinstance(result, Decoded), result
        text = model.vocabulary.to_text(result.hypotheses[0].token_ids)
        words[result.utt_id] = text.split()
    return [words[utt_id] for utt_id in sorted(words)]


def join(utterances: list[Tensor], pause: Tensor) -> Tensor:
    """One after the other, with a pause between them."""
    between = [pause] * len(utterances)
    return torch.cat(
        [x for pair in zip(utterances, between, strict=True) for x in pair]
    )


def compare(
    model: ESPnetCTCModel, utterances: list[Tensor], conf: LongAudioConf
) -> None:
    """Print how many words change with the way in which recordings are decoded."""
    whole = LongAudioConf(1e9, 1e9, 1e9, 1e8)
    groups = [utterances[i : i + 10] for i in range(0, len(utterances) - 9, 10)]
    alone = [x for group in groups for x in group]
    expected = decode(model, alone, whole)
    words = sum(map(len, expected))

    def differ(expected: list[list[str]], found: list[list[str]]) -> str:
        errors = sum(
            count(align(x, y)).errors for x, y in zip(expected, found, strict=True)
        )
        return f"{errors} ({100 * errors / words:.1f} %)"

    def together(found: list[list[str]]) -> list[list[str]]:
        return [list(chain(*found[i : i + 10])) for i in range(0, len(found), 10)]

    rows = []
    generator = torch.Generator().manual_seed(0)
    for seconds in (0.0, 0.3, 0.5):
        noise = torch.randn(round(seconds * model.fs), generator=generator)
        pause = _PAUSE_LEVEL * noise
        half = pause[: len(pause) // 2]
        padded = [torch.cat([half, x, half]) for x in alone]
        joined = [join(group, pause) for group in groups]
        rows.append(
            [
                f"{seconds:g} s",
                differ(together(expected), decode(model, joined, whole)),
                differ(together(expected), decode(model, joined, conf)),
                differ(expected, decode(model, padded, whole)),
            ]
        )
    print(
        f"{len(groups)} times 10 utterances, {words} words; segments of about "
        f"{conf.segment_seconds:.1f} s. Words that differ from those of the utterances:\n"
    )
    headers = ["pause between", "whole", "cut in pauses", "cut where they meet"]
    print(tabulate(rows, headers, tablefmt="github"), "\n", flush=True)


def peak_memory() -> int:
    """Most memory of this process since :func:`reset_peak`, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024


def reset_peak() -> None:
    """Begin to look for the most memory."""
    Path("/proc/self/clear_refs").write_text("5")


def get_parser() -> argparse.ArgumentParser:
    """Options of this script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model_file", help="weights, beside their config.yaml")
    parser.add_argument("data_dir", type=Path, help="such as dump/raw/test")
    parser.add_argument("--hours", type=float, default=1.0, help="default: %(default)s")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Compare transcripts, then measure memory."""
    args = get_parser().parse_args(cmd)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    model = load_ctc_model(None, args.model_file)
    audio = AudioFiles(args.data_dir / "wav.scp", model.fs)
    utterances = [audio.read(utt_id) for utt_id in audio.lengths]

    seconds = sum(map(len, utterances)) / len(utterances) / model.fs
    conf = LongAudioConf.of(seconds)
    compare(model, utterances, conf)

    samples = _repeat(utterances, round(args.hours * 3600 * model.fs))
    decode(model, [samples[: 120 * model.fs]], conf)
    reset_peak()
    before, begin = peak_memory(), time.perf_counter()
    decode(model, [samples], conf)
    seconds = time.perf_counter() - begin
    print(
        f"{args.hours:g} h: {peak_memory() - before} MB above the model and its speech, "
        f"{seconds:.0f} s, RTFx {args.hours * 3600 / seconds:.0f}"
    )


def _repeat(utterances: list[Tensor], num_samples: int) -> Tensor:
    once = torch.cat(utterances)
    return once.repeat(num_samples // len(once) + 1)[:num_samples]


if __name__ == "__main__":
    main()
