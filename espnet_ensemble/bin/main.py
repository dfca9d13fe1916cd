#!/usr/bin/env python3
"""``espnet-ensemble <verb>``: one entry point for people.

Each verb is a module of this package, and ``python -m espnet_ensemble.bin.<verb>`` runs
the same; but for those of :data:`MODULES`, whose module is called otherwise.
"""

import argparse
import importlib

#: For people.
VERBS = {
    "ablate": "decode a model without each of its members: what does each contribute?",
    "analyze": "which upstreams and layers to combine, before anything is trained",
    "asr_train": "ESPnet's ASR training, with the plugin loaded",
    "asr_inference": "ESPnet's ASR decoding, with the plugin loaded",
    "decode": "decode with a CTC model, several data sets at once",
    "new-recipe": "make a recipe for a corpus of your own",
    "combine": "combine decodings of several systems into one",
    "compare": "compare decodings: error rates, tests, where they differ",
    "convert": "make a configuration or model with ESPnet's own frontends into one of ours",
    "merge": "average the weights of models trained with several seeds",
    "link": "place the recipes in a checkout of ESPnet",
    "export": "make an encoder for transformers of a trained model's frontend",
    "effuse": "make an ensemble run one upstream, and predict the others' features",
    "extract": "compute frozen upstreams' features once, for training from disk",
    "inspect": "look into a trained ensemble: weights, what each member alone knows",
    "plan": "what an experiment costs: disk, memory, GPU hours, time; measured here",
    "pack": "make a model zoo archive, with a card, that works on any machine",
    "upload": "upload a packed model and its card to the Hugging Face hub",
    "serve": "a web page and an API for trained models",
    "space": "write a Hugging Face Space around a model",
    "tune_lm": "choose a language model's weight and word bonus on a validation set",
    "table": "list, run and collect the systems of a table of experiments",
    "transcribe": "transcribe recordings with a trained model",
    "upstreams": "list encoders; compare them with the bare model of their library",
}
#: Verb -> its module, which is called as ESPnet would call it.
MODULES = {"decode": "asr_inference_ctc"}
#: For recipes, which call them as ``python -m espnet_ensemble.bin.<verb>``.
RECIPE_VERBS = {
    "asr_names": "what asr.sh calls its folders and files",
    "compare_members": "compare an ensemble with its members alone",
    "data_dir": "check, repair, combine and divide data directories",
    "download_model": "make an experiment of a published model, to decode with",
    "extract_shards": "do a job's part of the extraction",
    "filter_lengths": "leave out utterances that are too short or too long",
    "format_wav_scp": "make the audio files of a data directory",
    "known_shapes": "shape files of stage 10 from lengths that are known",
    "member_frontends": "a file for each upstream of a frontend",
    "ngram_train": "train an n-gram language model",
    "perturb_data_dir_speed": "copy utterances at other speeds",
    "prepare_audio_folder": "data directories of audio files and transcripts",
    "prepare_librilight": "data directories of Libri-Light's 10 hours",
    "prepare_librispeech": "data directories of LibriSpeech",
    "prepare_mini_synth": "speak the corpus mini_synth",
    "prepare_wsj": "data directories of the Wall Street Journal corpus",
    "score_asr": "error rates of transcripts",
    "show_asr_result": "error rates of experiments, as in RESULTS.md",
    "show_epochs": "a line for each epoch of a train.log",
    "show_result": "transcripts and a picture of an experiment",
    "split_training": "divide a training set's tables into parts",
    "spm_train": "train a SentencePiece model",
    "submit": "run commands here or on a SLURM cluster",
}


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble`` itself."""
    parser = argparse.ArgumentParser(
        prog="espnet-ensemble",
        description="Combine frozen self-supervised speech encoders in ESPnet.",
        epilog=f"verbs:\n{_list(VERBS)}\n\nfor recipes:\n{_list(RECIPE_VERBS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = [*VERBS, *RECIPE_VERBS]
    parser.add_argument(
        "verb", type=_as_listed, choices=verbs, metavar="verb", help="what to do"
    )
    parser.add_argument("args", nargs=argparse.REMAINDER, help="its options")
    return parser


def _as_listed(word: str) -> str:
    """A verb as it is listed: ``-`` and ``_`` are the same."""
    listed = {_module(verb): verb for verb in (*VERBS, *RECIPE_VERBS)}
    return listed.get(_module(word), word)


def _module(verb: str) -> str:
    return MODULES.get(verb, verb.replace("-", "_"))


def _list(verbs: dict[str, str]) -> str:
    return "\n".join(f"  {verb:<24}{text}" for verb, text in verbs.items())


def main(cmd: list[str] | None = None) -> None:
    """Run a verb."""
    args = get_parser().parse_args(cmd)
    importlib.import_module(f"espnet_ensemble.bin.{_module(args.verb)}").main(args.args)


if __name__ == "__main__":
    main()
