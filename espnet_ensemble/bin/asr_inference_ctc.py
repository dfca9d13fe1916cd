#!/usr/bin/env python3
"""Decode with a model that has nothing but CTC, at the speed that CTC allows.

Options and files are those of espnet2.bin.asr_inference. Several data sets are decoded
in one process: give --data_path_and_name_and_type and --output_dir (and --key_file)
once for each. --output_dir gets 1best_recog/{text,token,token_int,score}, and
decoding.yaml, which says how fast that was.

Long audio is cut in pauses, and decoded in segments. An utterance that cannot be decoded is
named, and gets an empty transcript.
"""

import argparse
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from espnet2.utils.config_argparse import ArgumentParser
from espnet2.utils.types import str2bool, str2triple_str, str_or_none
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
from espnet_ensemble.decoding.beam_search import BeamConf, BeamSearch, wants_beam
from espnet_ensemble.decoding.datasets import DataSet, check_output_dirs, decode_set
from espnet_ensemble.decoding.decoder import (
    BATCH_SECONDS,
    DecodeConf,
    Decoder,
    Search,
)
from espnet_ensemble.decoding.greedy import GreedySearch
from espnet_ensemble.decoding.vocabulary import Vocabulary
from espnet_ensemble.errors import EnsembleError


@dataclass(frozen=True)
class Foreign:
    """An option of espnet2.bin.asr_inference that CTC alone cannot follow.

    Attributes:
        reason: Why not.
        neutral: Values that ask for nothing.
    """

    reason: str
    neutral: tuple[Any, ...] = (None, False)


_NO_LM = "neural language models are for espnet2.bin.asr_inference"
_NO_DECODER = "the model has no decoder"
_LENGTH = "CTC finds a transcript's length itself"
#: A stock configuration may have them.
FOREIGN = {
    "lm_train_config": Foreign(_NO_LM),
    "lm_file": Foreign(_NO_LM),
    "word_lm_train_config": Foreign(_NO_LM),
    "word_lm_file": Foreign(_NO_LM),
    "penalty": Foreign(_LENGTH, (None, 0)),
    "maxlenratio": Foreign(_LENGTH, (None, 0)),
    "minlenratio": Foreign(_LENGTH, (None, 0)),
    "normalize_length": Foreign(_LENGTH),
    "streaming": Foreign("all of an utterance is there"),
    "time_sync": Foreign("--search beam is time-synchronous"),
    "enh_s2t_task": Foreign("only single-speaker recognition is supported"),
    "multi_asr": Foreign("only single-speaker recognition is supported"),
    "quantize_asr_model": Foreign("use --dtype bfloat16"),
    "quantize_lm": Foreign(_NO_LM),
    "hugging_face_decoder": Foreign(_NO_DECODER),
    "hugging_face_decoder_conf": Foreign(_NO_DECODER, (None, {})),
    "transducer_conf": Foreign(_NO_DECODER, (None, {})),
    "lang_prompt_token": Foreign(_NO_DECODER),
    "nlp_prompt_token": Foreign(_NO_DECODER),
    "prompt_token_file": Foreign(_NO_DECODER),
    "partial_ar": Foreign(_NO_DECODER),
    "allow_variable_data_keys": Foreign("speech is all that is read"),
}
#: These tune what is refused above, or what CTC alone has none of: any value will do.
IDLE = (
    "ctc_weight",
    "ctc_window_margin",
    "lm_weight",
    "seed",
    "quantize_modules",
    "quantize_dtype",
    "threshold_probability",
    "max_seq_len",
    "max_mask_parallel",
    "num_workers",
)


def get_parser() -> argparse.ArgumentParser:
    """Options of ``decode``."""
    parser = make_parser("decode", __doc__, ArgumentParser)
    parser.add_argument(
        "--log_level",
        type=str.upper,
        default="INFO",
        choices=("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET"),
        help="what is logged (default: %(default)s, every transcript)",
    )
    _add_data_options(parser)
    _add_model_options(parser)
    _add_search_options(parser)
    add_beam_options(parser)
    add_batch_options(parser)
    for name in (*FOREIGN, *IDLE):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    return parser


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data_path_and_name_and_type",
        type=str2triple_str,
        action="append",
        required=True,
        metavar="PATH,speech,TYPE",
        help="a wav.scp and the type sound; or what extract has written, a members.yaml, "
        "and the type feature_cache",
    )
    group.add_argument(
        "--output_dir", action="append", required=True, help="where transcripts go"
    )
    group.add_argument(
        "--key_file",
        type=str_or_none,
        action="append",
        help="decode the utterances of this file only",
    )
    group.add_argument(
        "--ctm",
        type=str2bool,
        default=True,
        help="also write the words of the best hypotheses with their times and "
        "confidences, to <output_dir>/1best_recog/ctm (default: %(default)s)",
    )
    group.add_argument(
        "--save_posteriors",
        type=str2bool,
        default=False,
        help="also write the posteriors, to <output_dir>/posteriors "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--on_error",
        choices=("skip", "stop"),
        default="skip",
        help="what to do if an utterance cannot be decoded: give it an empty transcript "
        "and go on, or stop (default: %(default)s)",
    )


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--asr_train_config",
        type=str_or_none,
        help="its config.yaml (default: the one beside the weights)",
    )
    group.add_argument("--asr_model_file", type=str_or_none, help="its weights")
    group.add_argument(
        "--model_tag", type=str_or_none, help="a packed model, in place of these two"
    )
    group.add_argument(
        "--token_type", type=str_or_none, help="default: what it was trained with"
    )
    group.add_argument(
        "--bpemodel", type=str_or_none, help="default: what it was trained with"
    )
    group.add_argument(
        "--members",
        type=_names,
        metavar="NAME,NAME",
        help="use these of its frontend's upstreams, such as wavlm_large; for a model "
        "that was trained with member_dropout (default: all)",
    )
    add_device_options(group)


def _names(value: str) -> list[str]:
    return value.split(",")


def _add_search_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("search")
    add_search_option(group)
    group.add_argument(
        "--nbest",
        type=int,
        default=1,
        help="hypotheses to write of each utterance (default: %(default)s)",
    )


def main(cmd: list[str] | None = None) -> None:
    """Decode data sets."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    logging.basicConfig(
        level=args.log_level,
        format="%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s",
    )
    # Also where somebody else has configured logging before.
    log = logging.getLogger("espnet_ensemble")
    log.setLevel(args.log_level)
    check_foreign(args)
    sets, conf = _data_sets(args), _decode_conf(args)
    wants_beam(vars(args))  # complains before the model is loaded
    model = _load_model(args)
    if args.members is not None:
        model.select_members(args.members)
    for data in sets:
        if data.kind == "feature_cache":
            _check_features(data, model)
    search = _make_search(args, model.vocabulary)
    decoder = Decoder(model, search, conf)
    settings = {
        "asr_model_file": args.asr_model_file or args.model_tag,
        "inference_config": inference_config(args),
        "search": search.name,
        "device": str(model.device),
        "dtype": args.dtype,
        "threads": torch.get_num_threads(),
        "long_audio": asdict(conf.long_audio),
        **({} if args.members is None else {"members": args.members}),
    }
    with logging_redirect_tqdm():
        for data in sets:
            summary = decode_set(decoder, model, data, settings)
            log.info("%s: %s", data.output_dir, summary)


def check_foreign(args: argparse.Namespace) -> None:
    """Refuse options that CTC alone cannot follow, unless they ask for nothing.

    Raises:
        EnsembleError: If there is one. It says why.
    """
    for name, option in FOREIGN.items():
        value = getattr(args, name)
        if isinstance(value, str):  # from the command line
            value = yaml.safe_load(value)
        if value not in option.neutral:
            raise EnsembleError(
                f"--{name} {getattr(args, name)}: not for a model that has only CTC: "
                f"{option.reason}"
            )


def inference_config(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the search that make the same transcripts of other speech, too."""
    if not wants_beam(vars(args)):
        return {"search": "greedy"}
    options = BeamConf.of({**vars(args), "utt2hotwords": None}).to_options()
    return {"search": "beam", **options}


def _data_sets(args: argparse.Namespace) -> list[DataSet]:
    paths, folders = args.data_path_and_name_and_type, args.output_dir
    keys = args.key_file or [None] * len(paths)
    if not len(paths) == len(folders) == len(keys):
        raise EnsembleError(
            "expected --data_path_and_name_and_type and --output_dir (and --key_file, if "
            f"any) once for each data set, found them {len(paths)}, {len(folders)} and "
            f"{len(keys)} times"
        )
    for path, name, _ in paths:
        if name != "speech":
            raise EnsembleError(f"{path}: expected the name speech, found {name!r}")
    sets = [
        DataSet(path, kind, folder, key_file)
        for (path, _, kind), folder, key_file in zip(paths, folders, keys, strict=True)
    ]
    check_output_dirs(sets)
    return sets


def _decode_conf(args: argparse.Namespace) -> DecodeConf:
    return DecodeConf(
        batch_seconds=args.batch_seconds or BATCH_SECONDS[device_of(args).type],
        batch_size=args.batch_size,
        nbest=args.nbest,
        skip=args.on_error == "skip",
        keep_posteriors=args.save_posteriors,
        find_words=args.ctm,
        long_audio=long_audio_conf(args, _train_config(args)),
    )


def _train_config(args: argparse.Namespace) -> Path | None:
    if not args.asr_model_file:
        return None
    beside = Path(args.asr_model_file).parent / "config.yaml"
    config = Path(args.asr_train_config or beside)
    return config if config.is_file() else None


def _load_model(args: argparse.Namespace) -> Any:
    # Not before the options are checked: importing ESPnet's task takes long.
    from espnet_ensemble.integrations.espnet2.model import (
        download_model,
        load_ctc_model,
    )

    files = {
        name: getattr(args, name) for name in ("asr_train_config", "asr_model_file")
    }
    if args.model_tag:
        files = download_model(args.model_tag)
    if not files["asr_model_file"]:
        raise EnsembleError("--asr_model_file or --model_tag is required")
    return load_ctc_model(
        **files,
        device=device_of(args),
        dtype=args.dtype,
        token_type=args.token_type,
        bpemodel=args.bpemodel,
    )


def _check_features(data: DataSet, model: Any) -> None:
    from espnet_ensemble.integrations.espnet2.checks import check_decoding

    check_decoding(data.path, model.config, model.model)


def _make_search(args: argparse.Namespace, vocabulary: Vocabulary) -> Search:
    if not wants_beam(vars(args)):
        return GreedySearch(vocabulary.blank_id)
    conf = BeamConf.of(vars(args))
    return BeamSearch(vocabulary.tokens, conf, args.nbest, vocabulary.blank_id)


if __name__ == "__main__":
    main()
