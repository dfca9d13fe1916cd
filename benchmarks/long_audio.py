#!/usr/bin/env python3
"""Long audio: what windows cost and change.

Utterances of a set are put one after the other. Ten of them are decoded in windows, and
the transcript compared with theirs; then so many hours, for the memory. It needs an
experiment, such as the quick start's, and Linux.

    cd egs2/mini_synth/asr1
    python ../../../benchmarks/long_audio.py exp/asr_*/valid.cer_ctc.ave.pth dump/raw/test
"""

import argparse
import itertools
import logging
import re
import time
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from espnet_ensemble.decoding.decoder import DecodeConf, Decoded, Decoder
from espnet_ensemble.decoding.greedy import GreedySearch
from espnet_ensemble.decoding.long_audio import LongAudioConf
from espnet_ensemble.decoding.sources import AudioFiles
from espnet_ensemble.integrations.espnet2.model import ESPnetCTCModel, load_ctc_model
from espnet_ensemble.recipes.scoring import align, count


class Speech:
    """A source of one utterance, which is in memory."""

    def __init__(self, samples: Tensor, fs: int):
        self.items_per_second = float(fs)
        self.lengths = {"speech": len(samples)}
        self._samples = samples

    def read(self, utt_id: str) -> Tensor:
        """Give it."""
        return self._samples


def decode(model: ESPnetCTCModel, samples: Tensor, conf: DecodeConf) -> list[str]:
    """Decode speech to words."""
    decoder = Decoder(model, GreedySearch(model.vocabulary.blank_id), conf)
    (result,) = decoder.decode(Speech(samples, model.fs))
    assert isinstance(result, Decoded), result
    return model.vocabulary.to_text(result.hypotheses[0].token_ids).split()


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
    parser.add_argument("--groups", type=int, default=10, help="default: %(default)s")
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

    # Windows of a length that the model knows, as the defaults are to most models.
    longest = max(map(len, utterances)) / model.fs
    window = LongAudioConf(2 * longest, 2 * longest, min(longest, 4.0))
    windows = replace(DecodeConf(), long_audio=window)
    errors = words = joints = 0
    for group in itertools.islice(_groups(utterances, 10), args.groups):
        apart = [word for each in group for word in decode(model, each, DecodeConf())]
        joined = decode(model, torch.cat(group), windows)
        errors += count(align(apart, joined)).errors
        words += len(apart)
        joints += len(group) - 1
    print(
        f"{args.groups} times 10 utterances in windows of {2 * longest:.0f} s: {errors} of "
        f"{words} words differ from those of the utterances apart, which have {joints} joints"
    )

    samples = _repeat(utterances, round(args.hours * 3600 * model.fs))
    decode(model, samples[: 120 * model.fs], DecodeConf())
    reset_peak()
    before, begin = peak_memory(), time.perf_counter()
    decode(model, samples, DecodeConf())
    seconds = time.perf_counter() - begin
    print(
        f"{args.hours:g} h: {peak_memory() - before} MB above the model and its speech, "
        f"{seconds:.0f} s, RTFx {args.hours * 3600 / seconds:.0f}"
    )


def _groups(utterances: list[Tensor], size: int):
    for start in range(0, len(utterances) - size + 1, size):
        yield utterances[start : start + size]


def _repeat(utterances: list[Tensor], num_samples: int) -> Tensor:
    once = torch.cat(utterances)
    return once.repeat(num_samples // len(once) + 1)[:num_samples]


if __name__ == "__main__":
    main()
