#!/usr/bin/env python3
"""Fine-tune a pre-trained model for ASR with CTC over characters.

The result is an ordinary CTC checkpoint of transformers. A run that was cut short goes on
from its last checkpoint, on the CPU with the very numbers it would have had.
"""

import argparse
import json
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import editdistance
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torchaudio.functional import speed
from tqdm import tqdm
from training import (
    Row,
    add_training_options,
    card_ending,
    load_checkpoint,
    make_model,
    run_steps,
    save_checkpoint,
    seed_step,
    update,
    write_table,
)
from transformers import (
    AutoFeatureExtractor,
    AutoModelForCTC,
    BatchFeature,
    PreTrainedModel,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2Processor,
)

from espnet_ensemble.data.audio import open_audio, read_audio
from espnet_ensemble.data.datadir import validate
from espnet_ensemble.data.tables import DataError, Segment
from espnet_ensemble.files import write_text

# How the vocabulary writes the space between words, and CTC's blank.
_SPACE, _BLANK = "|", "<pad>"


class Utterance(NamedTuple):
    """Speech, (samples,), in [-1, 1], and what is said in it."""

    key: str
    samples: np.ndarray
    text: str


def finetune(
    args: argparse.Namespace, command: str, work_dir: Path, final: Path
) -> None:
    """Train, and write the model.

    Args:
        args: The options of :func:`get_parser`.
        command: What to note in the model card as the way to make it again.
        work_dir: For what an interrupted run goes on with.
        final: Folder for the model.
    """
    extractor = AutoFeatureExtractor.from_pretrained(args.upstream)
    utterances = read_utterances(Path(args.data_dir), extractor.sampling_rate)
    valid = []
    if args.valid_dir:
        valid = read_utterances(Path(args.valid_dir), extractor.sampling_rate)
    tokenizer = make_tokenizer(utterances, work_dir)
    processor = Wav2Vec2Processor(extractor, tokenizer)
    torch.manual_seed(args.seed)
    model = load_model(args, tokenizer).to(args.device)
    rows = train(args, model, processor, utterances, work_dir)
    cer = None
    if valid:
        cer = greedy_cer(args, model, processor, valid)
        print(f"{args.valid_dir}: {cer:.1%} greedy character error rate")
    model.to("cpu").save_pretrained(final)
    processor.save_pretrained(final)
    # The processor has it in processor_config.json only, where not all loaders look.
    extractor.save_pretrained(final)
    write_table(rows, final / "train_log.csv")
    hours = sum(len(utt.samples) for utt in utterances) / extractor.sampling_rate / 3600
    card = model_card(args, command, hours, model, rows, cer)
    (final / "README.md").write_text(card, encoding="utf-8")


def read_utterances(data_dir: Path, fs: int) -> list[Utterance]:
    """Read the labelled speech of a Kaldi-style data directory.

    Returns:
        The utterances, sorted by length; half an hour is 0.1 GB.

    Raises:
        DataError: If the directory is not valid or has no wav.scp, or an utterance's
            audio is not readable or not at ``fs`` Hz.
    """
    tables = validate(data_dir)
    if "wav.scp" not in tables:
        raise DataError(f"{data_dir}/wav.scp: expected this file, found none")
    utterances = []
    progress = tqdm(tables["text"].items(), desc="read", unit="utt", mininterval=1)
    for key, text in progress:
        segment = Segment(key)
        if "segments" in tables:
            segment = Segment.parse(tables["segments"][key])
        entry = tables["wav.scp"][segment.recording]
        try:
            with open_audio(entry) as sound:
                if sound.samplerate != fs:
                    raise DataError(f"expected {fs} Hz, found {sound.samplerate} Hz")
                samples = read_audio(sound, segment)
        except DataError as error:
            raise DataError(f"{data_dir}: {key}: {entry}: {error}") from error
        utterances.append(Utterance(key, samples, text))
    return sorted(utterances, key=lambda utterance: len(utterance.samples))


def make_tokenizer(utterances: list[Utterance], folder: Path) -> Wav2Vec2CTCTokenizer:
    """Make a vocabulary of the characters in the texts.

    Args:
        utterances: Words in their texts are separated by spaces.
        folder: Where the vocabulary is written, as ``vocab.json``.

    Raises:
        ValueError: If a text has the character that stands for the space.
    """
    characters = set()
    for utterance in utterances:
        if _SPACE in utterance.text:
            raise ValueError(
                f"{utterance.key}: expected a text without {_SPACE!r}, found "
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
    args: argparse.Namespace, tokenizer: Wav2Vec2CTCTokenizer
) -> PreTrainedModel:
    """Load the pre-trained model, with a fresh CTC head.

    Raises:
        ValueError: If the checkpoint lacks weights of the encoder.
    """
    model, loading = AutoModelForCTC.from_pretrained(
        args.upstream,
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
        mask_time_prob=args.mask_time_prob,
        layerdrop=0.0,
        hidden_dropout=args.dropout,
        attention_dropout=args.dropout,
        activation_dropout=args.dropout,
        final_dropout=args.dropout,
    )
    missing = [key for key in loading["missing_keys"] if not key.startswith("lm_head.")]
    if missing:
        raise ValueError(
            f"{args.upstream} lacks weights, which would be random: {', '.join(missing)}"
        )
    if args.freeze_feature_encoder:
        model.freeze_feature_encoder()
    return model


def train(
    args: argparse.Namespace,
    model: PreTrainedModel,
    processor: Wav2Vec2Processor,
    utterances: list[Utterance],
    work_dir: Path,
) -> list[Row]:
    """Run the steps that are left.

    Args:
        args: The options of :func:`get_parser`.
        model: Trained in place.
        processor: Its feature extractor and tokenizer.
        utterances: Sorted by length.
        work_dir: Where the checkpoint and the loss curve go.

    Returns:
        The loss curve: means over ``args.log_interval`` steps each.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01
    )
    checkpoint = work_dir / "checkpoint.pt"
    done, rows = load_checkpoint(checkpoint, model, optimizer, args.device)
    model.train()
    batches = make_batches(args, processor, utterances)

    def step(number: int) -> Row:
        batch = batches[pick(number, len(batches), args.seed)]
        return run_step(args, number, model, optimizer, processor, batch)

    for done in run_steps(args, Path(args.output_dir).name, step, done, rows):
        save_checkpoint(checkpoint, model, optimizer, done, rows)
        write_table(rows, work_dir / "train_log.csv")
    return rows


def make_batches(
    args: argparse.Namespace, processor: Wav2Vec2Processor, utterances: list[Utterance]
) -> list[list[Utterance]]:
    """Cut the utterances, sorted by length, into batches.

    Returns:
        Batches of at most ``args.batch_seconds``, padding included, or of one utterance.
    """
    limit = args.batch_seconds * processor.feature_extractor.sampling_rate
    batches: list[list[Utterance]] = [[]]
    for utterance in utterances:
        if batches[-1] and (len(batches[-1]) + 1) * len(utterance.samples) > limit:
            batches.append([])
        batches[-1].append(utterance)
    return batches


def pick(step: int, num_batches: int, seed: int) -> int:
    """Choose a step's batch: in each epoch all of them, in another order.

    Example:
        >>> sorted(pick(step, 4, seed=0) for step in range(4, 8))
        [0, 1, 2, 3]
    """
    epoch, index = divmod(step, num_batches)
    return int(np.random.default_rng([seed, epoch]).permutation(num_batches)[index])


def run_step(
    args: argparse.Namespace,
    step: int,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    processor: Wav2Vec2Processor,
    batch: list[Utterance],
) -> Row:
    """One update; what is random in it depends on the seed and on the step alone.

    Returns:
        What to report; the loss is per character.
    """
    rng = seed_step(args.seed, step)
    batch = [perturb_speed(args, utterance, processor, rng) for utterance in batch]
    labels = [torch.tensor(processor.tokenizer(utt.text).input_ids) for utt in batch]
    labels = pad_sequence(labels, batch_first=True, padding_value=-100)
    inputs = make_inputs(processor, batch).to(args.device)
    with torch.autocast(args.device, torch.bfloat16, enabled=args.bfloat16):
        loss = model(**inputs, labels=labels.to(args.device)).loss
    return {"loss": loss.item(), **update(args, step, loss, model, optimizer)}


def perturb_speed(
    args: argparse.Namespace,
    utterance: Utterance,
    processor: Wav2Vec2Processor,
    rng: np.random.Generator,
) -> Utterance:
    """Play an utterance faster or slower, and so higher or lower: in another voice."""
    factor = rng.choice(args.speed_factors)
    if factor == 1:
        return utterance
    fs = processor.feature_extractor.sampling_rate
    samples, _ = speed(torch.from_numpy(utterance.samples), fs, factor)
    return utterance._replace(samples=samples.numpy())


def make_inputs(processor: Wav2Vec2Processor, batch: list[Utterance]) -> BatchFeature:
    """What the model takes: waveforms, (batch, samples), and their padding mask."""
    extractor = processor.feature_extractor
    return extractor(
        [utterance.samples for utterance in batch],
        sampling_rate=extractor.sampling_rate,
        padding=True,
        return_attention_mask=True,
        return_tensors="pt",
    )


@torch.no_grad()
def greedy_cer(
    args: argparse.Namespace,
    model: PreTrainedModel,
    processor: Wav2Vec2Processor,
    utterances: list[Utterance],
) -> float:
    """Edits per character of the texts, spaces included, without any search."""
    model.eval()
    edits = 0
    for batch in tqdm(make_batches(args, processor, utterances), desc="decode"):
        inputs = make_inputs(processor, batch).to(args.device)
        best = model(**inputs).logits.argmax(dim=-1).cpu()
        frames = model._get_feat_extract_output_lengths(
            inputs["attention_mask"].sum(dim=1)
        )
        for utterance, path, length in zip(batch, best, frames.tolist()):
            text = processor.decode(path[:length])
            edits += editdistance.eval(text, utterance.text)
    return edits / max(1, sum(len(utterance.text) for utterance in utterances))


def model_card(
    args: argparse.Namespace,
    command: str,
    hours: float,
    model: PreTrainedModel,
    rows: list[Row],
    cer: float | None,
) -> str:
    """What this model is, how it was made, and how its training went."""
    family = model.config.model_type
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    encoder = "frozen" if args.freeze_feature_encoder else "trained too"
    result = ""
    if cer is not None:
        result = f"- Greedy character error rate on `{args.valid_dir}`: {cer:.1%}\n"
    return f"""# {family}, tiny, fine-tuned with CTC for mini_synth

A {family} of {parameters:.1f} M parameters for the quick-start recipe: small enough
for a CPU, of no use for real speech. It writes characters.

- Made from: `{args.upstream}`; convolutional feature encoder {encoder}
- Data: {hours:.2f} h of mini_synth (`{args.data_dir}`): labelled, spoken by eSpeak NG
- Objective: CTC over {model.config.vocab_size} symbols; \
{args.mask_time_prob:.0%} of the frames masked, dropout {args.dropout:g}
- Speeds: {" ".join(map(str, args.speed_factors))}
- Steps: {args.num_steps}, each at most {args.batch_seconds:g} s
{result}{card_ending(args, command, rows)}"""


def get_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--upstream", required=True, help="folder of the model")
    parser.add_argument("--output_dir", required=True, help="for the finished model")
    parser.add_argument("--data_dir", default="data/train", help="labelled speech")
    parser.add_argument("--valid_dir", help="labelled speech to tell the error rate on")
    parser.add_argument("--num_steps", type=int, default=4000)
    parser.add_argument(
        "--batch_seconds", type=float, default=16.0, help="speech in a step, at most"
    )
    parser.add_argument("--lr", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--warmup_steps", type=int, default=300)
    parser.add_argument(
        "--freeze_feature_encoder",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave the convolutions as they are",
    )
    parser.add_argument(
        "--mask_time_prob", type=float, default=0.05, help="share of masked frames"
    )
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument(
        "--speed_factors",
        type=float,
        nargs="+",
        default=[1.0],
        help="each time it is used, an utterance is played at one of these speeds",
    )
    add_training_options(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Fine-tune a model."""
    options = sys.argv[1:] if cmd is None else cmd
    parser = get_parser()
    args = parser.parse_args(options)
    if min(args.speed_factors) <= 0:
        parser.error(f"--speed_factors: expected above 0, found {args.speed_factors}")
    command = f"python local/finetune.py {shlex.join(options)}"
    make_model(args, partial(finetune, args, command))


if __name__ == "__main__":
    main()
