"""Options of the commands that make the audio of a data directory."""

import argparse

import humanfriendly
from espnet2.utils.types import str2bool

from espnet_ensemble.data.audio import FORMATS, AudioConf


def add_audio_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that ``format_wav_scp`` and ``perturb_data_dir_speed`` share."""
    parser.add_argument("src", help="data directory")
    parser.add_argument("dest", help="where to write the result")
    parser.add_argument(
        "--fs",
        type=_fs,
        metavar="HZ",
        help="sample rate, such as 16k; none (the default): each file's own",
    )
    parser.add_argument(
        "--audio_format",
        choices=FORMATS,
        default=FORMATS[0],
        help=f"how files are written, with 16 bits per sample (default: {FORMATS[0]})",
    )
    parser.add_argument(
        "--ref_channel",
        type=int,
        help="channel to take, from 0 (default: audio with several channels is refused)",
    )
    parser.add_argument(
        "--nj", type=int, default=4, help="recordings worked on at a time (default: 4)"
    )
    parser.add_argument(
        "--ignore_errors",
        type=str2bool,
        default=False,
        metavar="BOOL",
        help="leave out utterances whose audio is broken (default: false)",
    )


def audio_conf(args: argparse.Namespace) -> AudioConf:
    """What those options say about how audio is written."""
    return AudioConf(args.fs, args.audio_format, args.ref_channel)


def _fs(value: str) -> int | None:
    return None if value.lower() == "none" else humanfriendly.parse_size(value)
