#!/usr/bin/env python3
"""CTC decoding beside ESPnet's, with one model, on one set, on this machine.

It needs an experiment, such as the quick start's. Ways take turns; a figure is the median
over the rounds. No figure has the start of Python in it, or the loading of the model.

    cd egs2/mini_synth/asr1
    python ../../../benchmarks/decoding.py exp/asr_*/valid.cer_ctc.ave.pth dump/raw/test
"""

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import torch
from espnet2.bin.asr_inference import Speech2Text
from tabulate import tabulate
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.decoding.beam import BeamOptions
from espnet_ensemble.decoding.beam_search import BeamConf, BeamSearch
from espnet_ensemble.decoding.decoder import DecodeConf, Decoded, Decoder, Search
from espnet_ensemble.decoding.greedy import GreedySearch
from espnet_ensemble.decoding.sources import AudioFiles, CachedFeatures, Source
from espnet_ensemble.feature_cache.dataset import FeatureCache
from espnet_ensemble.feature_cache.extract import ExtractConf, extract
from espnet_ensemble.feature_cache.shard import plan_batches
from espnet_ensemble.feature_cache.workers import Workers
from espnet_ensemble.integrations.espnet2.model import ESPnetCTCModel, load_ctc_model

#: What it is called -> what is to be timed.
Ways = dict[str, Callable[[], object]]
BEAM = 10
#: Utterances that ESPnet gets at once, where it takes several.
BATCH = 16


@dataclass(frozen=True)
class Setting:
    """A model, of ours and of ESPnet's, and how much it gets at once."""

    model: ESPnetCTCModel
    espnet: dict[str, Speech2Text]
    conf: DecodeConf

    @property
    def searches(self) -> dict[str, Search]:
        """Ours."""
        vocabulary = self.model.vocabulary
        conf = BeamConf(BeamOptions(BEAM))
        return {
            "greedy": GreedySearch(vocabulary.blank_id),
            f"beam {BEAM}": BeamSearch(
                vocabulary.tokens, conf, blank_id=vocabulary.blank_id
            ),
        }


def end_to_end(setting: Setting, source: Source) -> Ways:
    """From files to transcripts."""

    def ours(search: Search) -> Callable[[], object]:
        decoder = Decoder(setting.model, search, setting.conf)
        return lambda: _check(list(decoder.decode(source)))

    def theirs(speech2text: Speech2Text) -> Callable[[], object]:
        size = getattr(speech2text, "batch_size", 1)
        if size == 1:
            return lambda: [speech2text(source.read(x)) for x in source.lengths]
        utt_ids = sorted(source.lengths, key=source.lengths.__getitem__)
        batches = [utt_ids[i : i + size] for i in range(0, len(utt_ids), size)]
        return lambda: [
            speech2text.batch_decode([source.read(x) for x in batch])
            for batch in batches
        ]

    return {
        **{name: ours(search) for name, search in setting.searches.items()},
        "bare encoder": lambda: list(encode(setting, source)),
        **{name: theirs(each) for name, each in setting.espnet.items()},
    }


def decoder_only(setting: Setting, source: Source) -> Ways:
    """From the encoder's output, which is in memory, to transcripts."""
    posteriors = list(encode(setting, source))
    encoded = [x for each in posteriors for x in _alone(setting, source, each[0])]

    def ours(search: Search) -> Callable[[], object]:
        return lambda: [search(*batch) for batch in posteriors]

    @torch.inference_mode()
    def theirs(speech2text: Speech2Text) -> object:
        return [speech2text._decode_single_sample(x) for x in encoded]

    return {
        **{name: ours(search) for name, search in setting.searches.items()},
        **{
            name: lambda each=each: theirs(each)
            for name, each in setting.espnet.items()
            if getattr(each, "batch_size", 1) == 1
        },
    }


def encode(
    setting: Setting, source: Source
) -> Iterator[tuple[list[str], Tensor, Tensor]]:
    """The posteriors of a set, in the batches that decoding makes."""
    max_items = setting.conf.batch_seconds * source.items_per_second
    for batch in plan_batches(source.lengths, max_items):
        items = [source.read(utt_id) for utt_id in batch]
        lengths = torch.tensor([len(x) for x in items])
        padded = pad_sequence(items, batch_first=True)
        yield batch, *setting.model.log_probs(padded, lengths)


def _alone(setting: Setting, source: Source, utt_ids: list[str]) -> Iterator[Tensor]:
    for utt_id in utt_ids:
        items = source.read(utt_id)[None]
        with torch.inference_mode():
            encoded, _ = setting.model.model.encode(
                items.to(setting.model.device),
                torch.tensor([items.size(1)], device=setting.model.device),
            )
        yield encoded[0]


def _check(results: list) -> None:
    failed = [x for x in results if not isinstance(x, Decoded)]
    if failed:
        sys.exit(f"{failed[0].utt_id}: {failed[0].reason}")


def measure(ways: Ways, rounds: int) -> dict[str, float]:
    """Seconds of each way: the median of some rounds, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def report(title: str, seconds: dict[str, float], audio_seconds: float) -> None:
    """Print a table; ratios are to greedy decoding."""
    print(f"{title}\n")
    rows = [
        [name, f"{s:.3f}", f"{audio_seconds / s:.0f}", f"{s / seconds['greedy']:.2f}"]
        for name, s in seconds.items()
    ]
    headers = ["way", "seconds", "RTFx", "times greedy's"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))
    print(flush=True)


def cached(
    setting: Setting, data_dir: Path, folder: Path, utt_ids: list[str]
) -> Source:
    """The features of a set, from a cache that is made for this."""
    conf = ExtractConf(workers=Workers(1, 0))
    path = extract(data_dir, setting.model.config.frontend_conf, folder, conf)
    cache = FeatureCache(path)
    frames_per_second = 1 / setting.model.frame_seconds
    return CachedFeatures(cache, frames_per_second, utt_ids)


def get_parser() -> argparse.ArgumentParser:
    """Options of this script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model_file", help="weights, beside their config.yaml")
    parser.add_argument("data_dir", type=Path, help="such as dump/raw/test")
    parser.add_argument("--utts", type=int, help="the first so many (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--threads", type=int, help="default: PyTorch's")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument("--batch_seconds", type=float, default=60.0)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Run the comparison and print its tables."""
    args = get_parser().parse_args(cmd)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if args.threads:
        torch.set_num_threads(args.threads)
    model = load_ctc_model(None, args.model_file, args.device)
    config = Path(args.model_file).parent / "config.yaml"
    espnet = {
        f"espnet2.bin.asr_inference, beam {beam}": Speech2Text(
            config, args.model_file, device=args.device, beam_size=beam, ctc_weight=1.0
        )
        for beam in (1, BEAM)
    }
    if hasattr(Speech2Text, "batch_decode"):  # from ESPnet 202611 on
        espnet[f"the same, {BATCH} at once"] = Speech2Text(
            config,
            args.model_file,
            device=args.device,
            beam_size=BEAM,
            ctc_weight=1.0,
            batch_size=BATCH,
        )
    setting = Setting(model, espnet, DecodeConf(batch_seconds=args.batch_seconds))
    audio = AudioFiles(args.data_dir / "wav.scp", model.fs)
    utt_ids = list(audio.lengths)[: args.utts]
    audio = AudioFiles(args.data_dir / "wav.scp", model.fs, utt_ids)
    seconds = sum(audio.lengths.values()) / model.fs
    print(
        f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} threads, {args.device}, "
        f"torch {torch.__version__}; {len(utt_ids)} utterances, {seconds:.0f} s\n"
    )
    with tempfile.TemporaryDirectory() as name, open(os.devnull, "w") as nowhere:
        with redirect_stderr(nowhere):
            feats = cached(setting, args.data_dir, Path(name), utt_ids)
        for title, ways in (
            ("End to end, from audio", end_to_end(setting, audio)),
            ("End to end, from cached features", end_to_end(setting, feats)),
            ("Decoder only, from the encoder's output", decoder_only(setting, feats)),
        ):
            report(title, measure(ways, args.rounds), seconds)


if __name__ == "__main__":
    main()
