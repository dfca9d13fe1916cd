#!/usr/bin/env python3
"""List encoders by the names that `upstreams` takes; check them against the bare model.

Without an option: the checkpoints that the paper uses. Any other of the families that --search
lists, or of S3PRL's hub, works in `frontend_conf`, too.
"""

import argparse

import yaml
from tabulate import tabulate

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.upstream.catalogue import CATALOGUE, search
from espnet_ensemble.upstream.checkpoints import CHECKPOINTS
from espnet_ensemble.upstream.registry import BUILT_IN, UpstreamConf


def get_parser() -> argparse.ArgumentParser:
    """Options of ``upstreams``."""
    parser = make_parser("upstreams", __doc__)
    parser.add_argument(
        "--search",
        metavar="WORD",
        help="list families and well-known checkpoints in whose name, family, licence or "
        "languages this is; '' lists all",
    )
    parser.add_argument(
        "--check",
        metavar="NAME",
        nargs="+",
        help="download these where need be, and compare them with the bare model of their "
        "library, alone and in a batch: names, ids, folders, or entries of upstreams in YAML",
    )
    parser.add_argument("--download_dir", help="for what is downloaded")
    parser.add_argument(
        "--ngpu", type=int, default=0, help="0: CPU; 1: GPU (default: 0)"
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """List or check them."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    if args.check:
        _check(args)
    elif args.search is not None:
        print(_found(args.search))
    else:
        print(_table())


def _found(word: str) -> str:
    # It takes seconds: transformers' classes.
    from espnet_ensemble.upstream.families import FAMILIES

    known = search(word)
    families = [
        name
        for name in (*FAMILIES, *BUILT_IN)
        if word.lower() in name or name in [checkpoint.family for checkpoint in known]
    ]
    if not families:
        raise EnsembleError(
            f"--search: found no family and no checkpoint with {word!r}; families are "
            f"{', '.join((*FAMILIES, *BUILT_IN))}"
        )
    rows = [
        (
            c.name,
            c.family,
            f"{c.parameters:.0f} M",
            c.layers,
            c.licence,
            c.languages,
            c.hours,
        )
        for c in known
    ]
    headers = (
        "checkpoint", "family", "size", "layers", "licence", "languages", "hours"
    )  # fmt: skip
    table = tabulate(rows, headers=headers, disable_numparse=True)
    return f"families: {', '.join(families)}\n\n{table}\n\n{_STATED}"


def _check(args: argparse.Namespace) -> None:
    from espnet_ensemble.upstream.comparison import compare_with_bare

    rows, problems = [], []
    device = "cuda" if args.ngpu else "cpu"
    for name in args.check:
        for conf in _confs(name):
            try:
                found = compare_with_bare(conf, args.download_dir, device)
            except EnsembleError as error:
                problems.append(str(error))
                continue
            upstream = found.upstream
            rows.append(
                (
                    found.name,
                    found.loader,
                    len(upstream.layers) - 1,
                    upstream.feature_size,
                    f"{1000 * upstream.hop_length / upstream.fs:g} ms",
                    "-" if found.bare_error is None else f"{found.bare_error:.1e}",
                    f"{found.batch_error:.1e}",
                    f"{found.speed:.1f}",
                    "-" if found.bare_speed is None else f"{found.bare_speed:.1f}",
                    f"{found.megabytes:.0f}",
                    "-"
                    if found.peak_megabytes is None
                    else f"{found.peak_megabytes:.0f}",
                )
            )
            if not found.is_right:
                problems.append(
                    f"{found.name}: its features are not those of the bare model, or not "
                    "the same alone and in a batch"
                )
    headers = (
        "name", "loader", "layers", "size", "hop", "error to bare", "alone to batch",
        "speed", "speed of bare", "weights (MB)", "peak (MB)",
    )  # fmt: skip
    if rows:
        print(tabulate(rows, headers=headers, disable_numparse=True))
        print(_ERRORS)
    if problems:
        raise EnsembleError("\n".join(problems))


def _confs(name: str) -> list[UpstreamConf]:
    """What a word of the command line means; with both loaders where both have it."""
    try:
        entry = yaml.safe_load(name)
    except yaml.YAMLError as error:
        raise EnsembleError(f"--check: {name}: expected YAML: {error}") from error
    for checkpoint in CHECKPOINTS:
        if entry == checkpoint.huggingface:
            return [_all_layers(x) for x in (entry, checkpoint.s3prl_entry)]
    return [_all_layers(entry if isinstance(entry, dict) else name)]


def _all_layers(entry: str | dict) -> UpstreamConf:
    given = {"name": entry} if isinstance(entry, str) else entry
    return UpstreamConf.parse({"layer": "weighted_sum", **given})


def _table() -> str:
    notes = [checkpoint.note for checkpoint in CHECKPOINTS if checkpoint.note]
    rows = [
        (
            c.huggingface + (f" [{notes.index(c.note) + 1}]" if c.note else ""),
            c.s3prl,
            c.feature_size,
            c.num_layers,
            f"{c.parameters:.1f} M",
            c.data,
        )
        for c in CHECKPOINTS
    ]
    headers = ("transformers", "S3PRL", "size", "layers", "parameters", "data")
    numbered = [f"[{number}] {note}" for number, note in enumerate(notes, start=1)]
    more = f"{len(CATALOGUE) - len(CHECKPOINTS)} more, with licences: --search ''."
    return "\n".join([tabulate(rows, headers=headers), *numbered, _CUSTOM, more])


_CUSTOM = """\
S3PRL's hf_hubert_custom and hf_wav2vec2_custom take the id on the left as path_or_url."""
_STATED = """\
Sizes and layers are of the encoder; licences, languages and hours as authors state them."""
_ERRORS = """\
Errors: the greatest of any layer of any utterance, relative to its size, in float32.
Speed: seconds of speech per second, in a batch; of the bare model, one utterance at a time."""


if __name__ == "__main__":
    main()
