#!/usr/bin/env python3
"""Write the shape files of stage 10 from known lengths, if they are known.

Options are those of espnet2.bin.asr_train, of which some are used, and --jobs. The exit
status is 3 where lengths are not known: then --collect_stats has to decode the audio.
"""

import sys
from pathlib import Path

from espnet2.tasks.asr import ASRTask

import espnet_ensemble  # noqa: F401
from espnet_ensemble.data.tables import DataError
from espnet_ensemble.recipes.shapes import write_shapes

NOT_KNOWN = 3


def get_parser():
    """Options of ``known_shapes``."""
    parser = ASRTask.get_parser()
    parser.description = __doc__
    parser.add_argument(
        "--jobs", type=int, default=1, help="jobs that would deal utterances"
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Write ``train`` and ``valid`` in the output directory."""
    args = get_parser().parse_args(cmd)
    preprocess = ASRTask.build_preprocess_fn(args, train=False)
    sets = {
        "train": args.train_data_path_and_name_and_type,
        "valid": args.valid_data_path_and_name_and_type,
    }
    try:
        for name, ((wav_scp, *_), *_) in sets.items():
            output_dir = Path(args.output_dir, name)
            write_shapes(Path(wav_scp).parent, output_dir, preprocess, args.jobs)
    except DataError as error:
        print(f"known_shapes: {error}", file=sys.stderr)
        sys.exit(NOT_KNOWN)


if __name__ == "__main__":
    main()
