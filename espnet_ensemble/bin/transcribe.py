#!/usr/bin/env python3
"""Transcribe recordings with a trained model: any format, sample rate and length.

  espnet-ensemble transcribe exp/asr_x speech.wav
  espnet-ensemble transcribe model.zip interviews/ --output_dir out --output_format srt

MODEL is an experiment's folder, an archive that stage 14 made, or the id of a model on the
Hugging Face hub. It decodes as stage 12 has decoded with it last. Of a folder, all that
looks like audio or video is transcribed; "-" reads standard input.

Transcripts go to standard output, with the files' names where there are several, or to
files in --output_dir. A file that cannot be transcribed is named, and the others are
transcribed; the exit status is then 1.
"""

import argparse
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from espnet_ensemble.bin.beam_options import add_beam_options
from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.bin.decoding_options import (
    add_batch_options,
    add_device_options,
    add_search_option,
    device_of,
    long_audio_conf,
)
from espnet_ensemble.decoding.beam_search import SEARCH_OPTIONS
from espnet_ensemble.decoding.decoder import BATCH_SECONDS, DecodeConf
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import write_text
from espnet_ensemble.serving.formats import FORMATS
from espnet_ensemble.serving.recordings import find_audio
from espnet_ensemble.serving.transcriber import Failure, Transcriber, Transcript

STDIN = "-"
_log = logging.getLogger("espnet_ensemble.transcribe")


@dataclass(frozen=True)
class Input:
    """What is to be transcribed.

    Attributes:
        path: The file; ``-``: standard input.
        stem: Name of its transcripts in --output_dir, without suffix.
    """

    path: str
    stem: str


def get_parser() -> argparse.ArgumentParser:
    """Options of ``transcribe``."""
    parser = make_parser("transcribe", __doc__)
    parser.add_argument("model", metavar="MODEL", help="the trained model")
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="recordings, folders, or -"
    )
    _add_output_options(parser)
    add_device_options(parser.add_argument_group("model"), ngpu=None)
    group = parser.add_argument_group(
        "search", "what is not given here, nor below, is as stage 12 had it"
    )
    add_search_option(group)
    add_beam_options(parser, for_utts=False)
    parser.set_defaults(**dict.fromkeys(SEARCH_OPTIONS))
    add_batch_options(parser)
    return parser


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("transcripts")
    group.add_argument(
        "--output_format",
        "-f",
        choices=(*FORMATS, "all"),
        default="txt",
        help="txt; json: with the times and confidences of words; srt, vtt: subtitles; tsv: "
        "times in milliseconds, and text; ctm: a line for each word; all: all of them, for "
        "--output_dir (default: %(default)s)",
    )
    group.add_argument(
        "--output_dir",
        "-o",
        type=Path,
        help="folder for a file for each recording, in a folder's subfolders as there "
        "(default: standard output)",
    )
    group.add_argument(
        "--quiet", "-q", action="store_true", help="no progress bar, no log"
    )


def main(cmd: list[str] | None = None) -> None:
    """Transcribe recordings."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    inputs = list(_inputs(args.files))
    _check_output(args, inputs)
    device_of(args)  # complains before ESPnet is imported
    with _few_words(args.quiet):
        transcriber = _load(args)
        results = _in_order(_results(transcriber, inputs, args.quiet))
        failed = [
            x.path
            for x, result in zip(inputs, results, strict=True)
            if not _write(result, x, args, alone=len(inputs) == 1)
        ]
    if failed:
        raise EnsembleError(
            f"{len(failed)} of {len(inputs)} without a transcript: {', '.join(failed)}"
        )


def _inputs(files: Sequence[str]) -> Iterator[Input]:
    for file in files:
        if file == STDIN:
            yield Input(STDIN, "stdin")
        elif Path(file).is_dir():
            for path in find_audio(file):
                yield Input(str(path), str(path.relative_to(file).with_suffix("")))
        else:
            yield Input(file, Path(file).stem)


def _check_output(args: argparse.Namespace, inputs: Sequence[Input]) -> None:
    """Refuse what would be written over something else, or make no sense."""
    if [x.path for x in inputs].count(STDIN) > 1:
        raise EnsembleError("standard input (-) can be read once")
    if args.output_dir is None:
        subtitles = args.output_format in ("srt", "vtt", "tsv") and len(inputs) > 1
        if args.output_format == "all" or subtitles:
            raise EnsembleError(
                f"--output_format {args.output_format}: --output_dir is required"
            )
        return
    seen: dict[str, str] = {}
    for x in inputs:
        if x.stem in seen:
            raise EnsembleError(
                f"{seen[x.stem]} and {x.path}: expected different names, as both would "
                f"become {args.output_dir / x.stem}; transcribe them one by one, each with "
                "its --output_dir"
            )
        seen[x.stem] = x.path


def _decode_conf(args: argparse.Namespace, asr_train_config: Path) -> DecodeConf:
    return DecodeConf(
        batch_seconds=args.batch_seconds or BATCH_SECONDS[device_of(args).type],
        batch_size=args.batch_size,
        long_audio=long_audio_conf(args, asr_train_config),
    )


@contextmanager
def _few_words(quiet: bool) -> Iterator[None]:
    """Say what is loaded and what is broken, and nothing of libraries' own business."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    log = logging.getLogger("espnet_ensemble")
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    with warnings.catch_warnings(), logging_redirect_tqdm():
        warnings.simplefilter("ignore")
        yield


def _load(args: argparse.Namespace) -> Transcriber:
    # Not before the options are checked: importing ESPnet's task takes long, and prints
    # what of ESPnet's other parts is missing.
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        from espnet_ensemble.integrations.espnet2.pretrained import (
            find_model,
            pretrained,
        )
    options = {name: getattr(args, name) for name in SEARCH_OPTIONS}
    files = find_model(args.model)
    conf = _decode_conf(args, files.asr_train_config)
    return pretrained(files, device_of(args), args.dtype, conf, **options)


def _results(
    transcriber: Transcriber, inputs: Sequence[Input], quiet: bool
) -> Iterator[tuple[int, Transcript | Failure]]:
    """What becomes of each, by its index, under a bar of seconds of speech."""
    recordings = [sys.stdin.buffer if x.path == STDIN else x.path for x in inputs]
    with tqdm(
        unit=" s",
        bar_format="{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of speech "
        "[{elapsed}<{remaining}, {rate_noinv_fmt}]",
        disable=True if quiet else None,
    ) as bar:

        def progress(total: float, seconds: float) -> None:
            bar.total = max(
                total, bar.n + seconds
            )  # some files do not say their length
            bar.update(seconds)

        yield from transcriber.iterate(recordings, progress=progress)


def _in_order(
    results: Iterable[tuple[int, Transcript | Failure]],
) -> Iterator[Transcript | Failure]:
    """The results in the order of what was given, each as soon as those before it."""
    waiting: dict[int, Transcript | Failure] = {}
    following = 0
    for index, result in results:
        waiting[index] = result
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def _write(
    result: Transcript | Failure, x: Input, args: argparse.Namespace, alone: bool
) -> bool:
    """Write a transcript, or why there is none; whether there is one."""
    if isinstance(result, Failure):
        _log.error("%s", result)
        return False
    if args.output_dir is not None:
        formats = FORMATS if args.output_format == "all" else [args.output_format]
        for name in formats:
            path = args.output_dir / f"{x.stem}.{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, FORMATS[name](result))
        return True
    text = FORMATS[args.output_format](result)
    if args.output_format == "txt" and not alone:
        text = f"{result.name}\t{text}"
    tqdm.write(text, file=sys.stdout, end="")
    return True


if __name__ == "__main__":
    main()
