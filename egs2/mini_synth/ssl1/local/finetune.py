#!/usr/bin/env python3
"""Fine-tune a pre-trained model for ASR with CTC over characters.

The result is an ordinary CTC checkpoint of transformers. A run that was cut short goes on
from its last checkpoint, on the CPU with the very numbers it would have had.
"""

import argparse
import json
import shlex
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import editdistance
import numpy as np
import torch
from finetune_data import (
    LabelledSpeech,
    make_batches,
    make_inputs,
    perturb_speed,
    pick_batch,
    read_labelled,
)
from model_dir import Row, card_ending, check_nothing_missing, make_model, write_table
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from training import TrainingOptions, add_training_options, means, options_of, train
from transformers import (
    AutoFeatureExtractor,
    AutoModelForCTC,
    PreTrainedModel,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2Processor,
)

from espnet_ensemble.bin.command import run
from espnet_ensemble.data.tables import DataError
from espnet_ensemble.files import write_text

# How the vocabulary writes the space between words, and CTC's blank.
_SPACE, _BLANK = "|", "<pad>"


@dataclass(frozen=True)
class DataOptions:
    """What speech a model is trained on.

    Attributes:
        data_dir: Labelled speech to train on.
        valid_dir: Labelled speech to tell the error rate on; None: it is not told.
        batch_seconds: Speech in a step, at most, padding included.
        speed_factors: Each time that it is used, an utterance is played at one of these.
    """

    data_dir: Path
    valid_dir: Path | None
    batch_seconds: float
    speed_factors: list[float]


@dataclass(frozen=True)
class ModelOptions:
    """What a model starts from, and what happens in it while it is trained.

    Attributes:
        upstream: Folder of the pre-trained model.
        freeze_feature_encoder: Whether the convolutions stay as they are.
        mask_time_prob: Share of masked frames.
        dropout: Everywhere in the model.
    """

    upstream: Path
    freeze_feature_encoder: bool
    mask_time_prob: float
    dropout: float


@dataclass(frozen=True)
class FinetuneOptions:
    """All that decides a fine-tuned model.

    Attributes:
        data: The speech.
        model: What it starts from.
        training: How it is trained.
    """

    data: DataOptions
    model: ModelOptions
    training: TrainingOptions

    @classmethod
    def of(cls, args: argparse.Namespace) -> "FinetuneOptions":
        """Group the options of :func:`get_parser`."""
        return cls(
            data=options_of(DataOptions, args),
            model=options_of(ModelOptions, args),
            training=options_of(TrainingOptions, args),
        )


def finetune(
    options: FinetuneOptions, command: str, work_dir: Path, final: Path
) -> None:
    """Train a model, and write it.

    Args:
        options: Of the model.
        command: Noted in the model card as the way to make it again.
        work_dir: For what an interrupted run goes on with.
        final: Folder for the model.
    """
    data, training = options.data, options.training
    extractor = AutoFeatureExtractor.from_pretrained(options.model.upstream)
    fs = extractor.sampling_rate
    utterances = read_labelled(data.data_dir, fs)
    valid = [] if data.valid_dir is None else read_labelled(data.valid_dir, fs)
    processor = Wav2Vec2Processor(extractor, make_tokenizer(utterances, work_dir))
    torch.manual_seed(training.seed)
    model = load_model(options.model, processor.tokenizer).to(training.device)
    batches = make_batches(utterances, data.batch_seconds * fs)
    compute_loss = partial(step_loss, model, processor, options, batches)
    rows = means(train(model, compute_loss, training, work_dir), training.log_interval)
    cer = None
    if valid:
        cer = greedy_cer(model, processor, make_batches(valid, data.batch_seconds * fs))
        print(f"{data.valid_dir}: {cer:.1%} greedy character error rate")
    model.to("cpu").save_pretrained(final)
    processor.save_pretrained(final)
    # The processor has it in processor_config.json only, where not all loaders look.
    extractor.save_pretrained(final)
    write_table(rows, final / "train_log.csv")
    hours = sum(len(utt.samples) for utt in utterances) / fs / 3600
    card = model_card(options, command, hours, model, rows, cer)
    write_text(final / "README.md", card)


def make_tokenizer(
    utterances: list[LabelledSpeech], folder: Path
) -> Wav2Vec2CTCTokenizer:
    """Make a vocabulary of the characters in the texts.

    Args:
        utterances: Of the training set.
        folder: Where the vocabulary is written, as ``vocab.json``.

    Raises:
        DataError: If a text has the character that stands for the space.
    """
    characters = set()
    for utterance in utterances:
        if _SPACE in utterance.text:
            raise DataError(
                f"{utterance.utt_id}: expected a text without {_SPACE!r}, found "
                f"{utterance.text!r}"
            )
        characters.update(utterance.text)
    characters.discard(" ")
    symbols = [_BLANK, "<unk>", _SPACE, *sorted(characters)]
    vocab = {symbol: index for index, symbol in enumerate(symbols)}
    path = folder / "vocab.json"
    write_text(path, json.dumps(vocab, ensure_ascii=False, indent=4) + "\n")
    return Wav2Vec2CTCTokenizer(
        str(path), bos_token=None, eos_token=None, pad_token=_BLANK, unk_token="<unk>"
    )


def load_model(
    options: ModelOptions, tokenizer: Wav2Vec2CTCTokenizer
) -> PreTrainedModel:
    """Load a pre-trained model, with a fresh CTC head.

    Raises:
        EnsembleError: If the checkpoint lacks weights of the encoder.
    """
    model, loading = AutoModelForCTC.from_pretrained(
        options.upstream,
        dtype=torch.float32,
        output_loading_info=True,
        # The head is made anew, also where the upstream has one.
        ignore_mismatched_sizes=True,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=None,
        ctc_loss_reduction="mean",
        # An utterance of too few frames for its text has no alignment.
        ctc_zero_infinity=True,
        apply_spec_augment=True,
        mask_time_prob=options.mask_time_prob,
        layerdrop=0.0,
        hidden_dropout=options.dropout,
        attention_dropout=options.dropout,
        activation_dropout=options.dropout,
        final_dropout=options.dropout,
    )
    missing = [key for key in loading["missing_keys"] if not key.startswith("lm_head.")]
    check_nothing_missing(options.upstream, missing)
    if options.freeze_feature_encoder:
        model.freeze_feature_encoder()
    return model


def step_loss(
    model: PreTrainedModel,
    processor: Wav2Vec2Processor,
    options: FinetuneOptions,
    batches: list[list[LabelledSpeech]],
    step: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Row]:
    """Compute the loss of a step, per character.

    Args:
        model: On its device.
        processor: Its feature extractor and tokenizer.
        options: Of the model.
        batches: One of them is taken.
        step: The step's number, from 0.
        rng: Decides the utterances' speeds.

    Returns:
        The loss, a scalar, and what else to report: nothing.
    """
    training, fs = options.training, processor.feature_extractor.sampling_rate
    batch = [
        perturb_speed(utterance, options.data.speed_factors, fs, rng)
        for utterance in batches[pick_batch(step, len(batches), training.seed)]
    ]
    labels = [torch.tensor(processor.tokenizer(utt.text).input_ids) for utt in batch]
    labels = pad_sequence(labels, batch_first=True, padding_value=-100)
    inputs = make_inputs(processor.feature_extractor, batch).to(training.device)
    with training.autocast():
        return model(**inputs, labels=labels.to(training.device)).loss, {}


@torch.no_grad()
def greedy_cer(
    model: PreTrainedModel,
    processor: Wav2Vec2Processor,
    batches: list[list[LabelledSpeech]],
) -> float:
    """Count edits per character of the texts, spaces included, without any search."""
    model.eval()
    edits = num_characters = 0
    for batch in tqdm(batches, desc="decode"):
        inputs = make_inputs(processor.feature_extractor, batch).to(model.device)
        best = model(**inputs).logits.argmax(dim=-1).cpu()
        frames = model._get_feat_extract_output_lengths(
            inputs["attention_mask"].sum(dim=1)
        )
        for utterance, path, length in zip(batch, best, frames.tolist(), strict=True):
            text = processor.decode(path[:length])
            edits += editdistance.eval(text, utterance.text)
            num_characters += len(utterance.text)
    return edits / max(1, num_characters)


def model_card(
    options: FinetuneOptions,
    command: str,
    hours: float,
    model: PreTrainedModel,
    rows: list[Row],
    cer: float | None,
) -> str:
    """Tell what a model is, how it was made, and how its training went."""
    data, start = options.data, options.model
    family = model.config.model_type
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    encoder = "frozen" if start.freeze_feature_encoder else "trained too"
    result = ""
    if cer is not None:
        result = f"- Greedy character error rate on `{data.valid_dir}`: {cer:.1%}\n"
    return f"""# {family}, tiny, fine-tuned with CTC for mini_synth

A {family} of {parameters:.1f} M parameters for the quick-start recipe: small enough
for a CPU, of no use for real speech. It writes characters.

- Made from: `{start.upstream}`; convolutional feature encoder {encoder}
- Data: {hours:.2f} h of mini_synth (`{data.data_dir}`): labelled, spoken by eSpeak NG
- Objective: CTC over {model.config.vocab_size} symbols; \
{start.mask_time_prob:.0%} of the frames masked, dropout {start.dropout:g}
- Speeds: {" ".join(map(str, data.speed_factors))}
- Steps: {options.training.num_steps}, each at most {data.batch_seconds:g} s
{result}{card_ending(command, options.training.device, rows)}"""


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command.

    Example:
        >>> options = "--upstream upstreams/hubert --output_dir exp/hubert_ctc".split()
        >>> get_parser().parse_args(options).batch_seconds
        16.0
    """
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--output_dir", required=True, type=Path, help="for the finished model")
    add = parser.add_argument_group("data").add_argument
    add("--data_dir", type=Path, default="data/train", help="labelled speech")
    add("--valid_dir", type=Path, help="labelled speech to tell the error rate on")
    add("--batch_seconds", type=float, default=16.0, help="speech in a step, at most")
    add(
        "--speed_factors",
        type=positive,
        nargs="+",
        default=[1.0],
        help="each time it is used, an utterance is played at one of these speeds",
    )
    add = parser.add_argument_group("model").add_argument
    add("--upstream", required=True, type=Path, help="folder of the pre-trained model")
    add(
        "--freeze_feature_encoder",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave the convolutions as they are",
    )
    add("--mask_time_prob", type=float, default=0.05, help="share of masked frames")
    add("--dropout", type=float, default=0.1, help="everywhere in the model")
    add_training_options(parser, num_steps=4000)
    return parser


def positive(word: str) -> float:
    """Parse a number above 0.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    number = float(word)
    if number > 0:
        return number
    raise argparse.ArgumentTypeError(f"expected above 0, found {word}")


def main(cmd: list[str] | None = None) -> None:
    """Fine-tune a model."""
    words = sys.argv[1:] if cmd is None else cmd
    command = f"python local/finetune.py {shlex.join(words)}"

    def work(args: argparse.Namespace) -> None:
        make = partial(finetune, FinetuneOptions.of(args), command)
        make_model(args.output_dir, vars(args), make)

    run(get_parser(), work, words)


if __name__ == "__main__":
    main()
