#!/usr/bin/env python3
"""Which upstreams to combine, and which of their layers, before anything is trained.

Of an hour of speech with transcripts, each upstream is run once. Linear probes say what each layer
knows of the text, and what combinations know together; CKA, CCA and ridge regression, how alike
layers are. In --output_dir are then index.html with pictures, analysis.json, and for each budget
a frontend_<number of members>.yaml, a frontend_config for asr.sh.

A run that was killed goes on where it stopped.
"""

import argparse
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run, show_log
from espnet_ensemble.bin.worker_options import add_worker_options, read_workers
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache.archive import DEFAULT_STORAGE, STORAGES
from espnet_ensemble.feature_cache.extract import ExtractConf
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.normalization import NORMALIZATIONS

# Combinations shown in the terminal; all are in the page.
_SHOWN = 10


def get_parser() -> argparse.ArgumentParser:
    """Options of ``analyze``."""
    parser = make_parser("analyze", __doc__)
    parser.add_argument(
        "--data_dir",
        required=True,
        type=Path,
        help="data directory with one audio file per utterance, and text",
    )
    parser.add_argument(
        "--upstreams",
        nargs="+",
        required=True,
        help="names of S3PRL's hub, ids of the Hugging Face hub, or folders",
    )
    parser.add_argument(
        "--output_dir",
        type=Path,
        default=Path("exp/analysis"),
        help="for results (default: %(default)s)",
    )
    parser.add_argument(
        "--cache_dir", type=Path, help="for features (default: <output_dir>/feats)"
    )
    group = parser.add_argument_group("what is looked at")
    group.add_argument(
        "--hours",
        type=float,
        default=1.0,
        help="hours of speech, at most, drawn at random (default: %(default)s)",
    )
    group.add_argument(
        "--layers",
        nargs="+",
        type=int,
        metavar="N",
        help="only these hidden states of each upstream (default: all)",
    )
    group.add_argument(
        "--normalize",
        choices=NORMALIZATIONS,
        default="utterance",
        help="what brings features to one scale first (default: %(default)s)",
    )
    group.add_argument(
        "--fs", default="16k", help="sample rate of the audio (default: %(default)s)"
    )
    group.add_argument("--download_dir", help="where to keep downloaded checkpoints")
    group.add_argument(
        "--max_members",
        type=int,
        default=3,
        help="upstreams of a combination, at most (default: %(default)s)",
    )
    group.add_argument(
        "--candidates",
        type=int,
        default=8,
        help="upstreams, the best alone, whose pairs are all tried (default: %(default)s)",
    )
    group.add_argument(
        "--similarity_frames",
        type=int,
        default=20000,
        help="frames that CKA and CCA are computed of, at most (default: %(default)s)",
    )
    group.add_argument(
        "--max_memory",
        type=float,
        default=1.0,
        metavar="GB",
        help="memory for covariances; what does not fit is computed in several readings of "
        "the features (default: %(default)s)",
    )
    group.add_argument(
        "--device", default="cpu", help="of the probes, such as cuda:0 (default: cpu)"
    )
    group.add_argument(
        "--storage",
        choices=STORAGES,
        default=DEFAULT_STORAGE,
        help="type of the numbers in the cache (default: %(default)s)",
    )
    add_worker_options(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Compare upstreams, and say which to combine."""
    show_log()
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    # They take seconds, in which options are refused.
    from espnet_ensemble.analysis.probe import ProbeConf
    from espnet_ensemble.analysis.report import choices_table, write_report
    from espnet_ensemble.analysis.study import StudyConf, study

    if len(set(args.upstreams)) < len(args.upstreams):
        raise EnsembleError("--upstreams: expected different ones, found one twice")
    frontend = FrontendConf.parse(
        {
            "upstreams": args.upstreams,
            "normalize": args.normalize,
            "fs": args.fs,
            "download_dir": args.download_dir,
        }
    )
    extraction = ExtractConf(
        storage=args.storage,
        skip=True,
        workers=read_workers(args),
        layers=args.layers or "all",
    )
    conf = StudyConf(
        hours=args.hours,
        max_members=args.max_members,
        candidates=args.candidates,
        similarity_frames=args.similarity_frames,
        max_bytes=int(args.max_memory * 1e9),
        probe=ProbeConf(device=args.device),
        extraction=extraction,
    )
    cache_dir = args.cache_dir or args.output_dir / "feats"
    found = study(args.data_dir, frontend, args.output_dir, cache_dir, conf)
    paths = write_report(found, args.output_dir)
    print(choices_table(found, _SHOWN))
    print()
    for path in [args.output_dir / "index.html", *paths]:
        print(path)


if __name__ == "__main__":
    main()
