#!/usr/bin/env python3
"""A model trained with ESPnet's `fused` beside the one that `convert` makes of it.

WavLM and HuBERT of base size with random weights, in the format of S3PRL: how much outputs depend
on padding, and rounding, do not need trained ones. ESPnet trains the head on some utterances of
mini_synth; both models then hear the same test utterances, alone and in padded batches.

    python benchmarks/convert.py --folder /tmp/convert
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import soundfile
import torch
from espnet2.bin import asr_train
from espnet2.tasks.asr import ASRTask
from frontend import FAMILIES, save_s3prl
from tabulate import tabulate
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.data.tables import read_table
from espnet_ensemble.files import write_text, write_yaml
from espnet_ensemble.integrations.espnet2.stock_models import (
    convert_model,
    relative_error,
)
from espnet_ensemble.recipes.corpora.mini_synth.prepare import prepare_mini_synth
from espnet_ensemble.upstream.s3prl_hub import import_s3prl_nn

MODEL = "valid.loss.ave.pth"


def stock_config(folder: Path, layers: str) -> dict:
    """A training configuration as ESPnet's recipes with `fused`."""
    frontends = [
        {
            "frontend_type": "s3prl",
            "frontend_conf": {
                "upstream": f"{family}_local",
                "path_or_url": str(folder / f"{family}.pt"),
            },
            "download_dir": None,
            "multilayer_feature": layers == "weighted_sum",
        }
        for family in FAMILIES
    ]
    return {
        "frontend": "fused",
        "frontend_conf": {"frontends": frontends, "proj_dim": 100},
        "normalize": "utterance_mvn",
        "preencoder": "linear",
        "preencoder_conf": {"input_size": 200, "output_size": 80},
        "encoder": "transformer",
        "encoder_conf": {
            "input_layer": "linear",
            "output_size": 256,
            "linear_units": 1024,
            "num_blocks": 2,
        },
        "decoder": None,
        "model_conf": {"ctc_weight": 1.0},
        "optim": "adam",
        "optim_conf": {"lr": 0.001},
        "best_model_criterion": [["valid", "loss", "min"]],
        "keep_nbest_models": 1,
        "batch_type": "unsorted",
        "batch_size": 4,
        "num_workers": 0,
        "num_att_plot": 0,
        "use_matplotlib": False,
        "use_tensorboard": False,
    }


def write_subset(data_dir: Path, number: int) -> set[str]:
    """Write tables of the first utterances that training reads; return their letters."""
    texts = dict(list(read_table(data_dir / "text").items())[:number])
    paths = read_table(data_dir / "wav.scp")
    write_text(
        data_dir / "subset.scp",
        "".join(f"{utt_id} {paths[utt_id]}\n" for utt_id in texts),
    )
    write_text(
        data_dir / "shape",
        "".join(
            f"{utt_id} {soundfile.info(paths[utt_id]).frames}\n" for utt_id in texts
        ),
    )
    return set("".join(texts.values())) - {" "}


def train(folder: Path, config: dict, number: int, max_epoch: int) -> Path:
    """Train with ESPnet itself; return the experiment."""
    data = {split: folder / "data" / split for split in ("train", "dev")}
    letters = [write_subset(path, number) for path in data.values()]
    tokens = ["<blank>", "<unk>", "<space>", *sorted(set.union(*letters)), "<sos/eos>"]
    write_text(folder / "tokens.txt", "\n".join(tokens) + "\n")
    write_yaml(folder / "train.yaml", config)
    exp = folder / "exp" / "asr_fused"
    options = ["--config", "train.yaml", "--token_list", "tokens.txt"]
    options += ["--token_type", "char", "--output_dir", str(exp), "--ngpu", "0"]
    options += ["--max_epoch", str(max_epoch), "--use_preprocessor", "true"]
    options[1], options[3] = str(folder / "train.yaml"), str(folder / "tokens.txt")
    for split, path in zip(("train", "valid"), data.values(), strict=True):
        kind = f"--{split}_data_path_and_name_and_type"
        options += [kind, f"{path}/subset.scp,speech,sound"]
        options += [kind, f"{path}/text,text,text"]
        options += [f"--{split}_shape_file", f"{path}/shape"]
    asr_train.main(options)
    return exp


def read_speech(data_dir: Path, number: int) -> list[Tensor]:
    """The first test utterances, (samples,), the longest first."""
    paths = list(read_table(data_dir / "wav.scp").values())[:number]
    wavs = [torch.from_numpy(soundfile.read(p, dtype="float32")[0]) for p in paths]
    return sorted(wavs, key=len, reverse=True)


@torch.no_grad()
def run(
    model: torch.nn.Module, wavs: Sequence[Tensor], batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features, and log probabilities of tokens, of each utterance, (frames, size)."""
    for start in range(0, len(wavs), batch_size):
        batch = list(wavs[start : start + batch_size])
        lengths = torch.tensor([len(wav) for wav in batch])
        speech = pad_sequence(batch, batch_first=True)
        feats, _ = model.frontend(speech, lengths)
        encoded, _ = model.encode(speech, lengths)
        log_probs = model.ctc.log_softmax(encoded)
        # S3PRL counts a frame for each started 320 samples.
        frames = (lengths - 1) // 320 + 1
        for item, n in enumerate(frames.tolist()):
            yield feats[item, :n], log_probs[item, :n]


def differences(
    found: Sequence[tuple[Tensor, Tensor]], expected: Sequence[tuple[Tensor, Tensor]]
) -> list[str]:
    """Largest relative errors of features and log probabilities; frames decided otherwise."""
    feats, log_probs = (
        [relative_error(a[i], b[i]) for a, b in zip(found, expected, strict=True)]
        for i in (0, 1)
    )
    changed = torch.cat(
        [
            a[1].argmax(-1) != b[1].argmax(-1)
            for a, b in zip(found, expected, strict=True)
        ]
    )
    share = 100 * changed.float().mean()
    return [f"{max(feats):.1e}", f"{max(log_probs):.1e}", f"{share:.1f} %"]


def main() -> None:
    """Train, convert, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for all files")
    parser.add_argument("--layers", choices=("last", "weighted_sum"), default="last")
    parser.add_argument("--num_train", type=int, default=8, help="utterances")
    parser.add_argument("--num_test", type=int, default=8, help="utterances")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--max_epoch", type=int, default=1)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    minutes = {"train": 3.0, "dev": 1.0, "test": 2.0}
    prepare_mini_synth(args.folder / "wav", args.folder / "data", minutes, 0, 1)
    torch.manual_seed(0)
    if not (args.folder / "hubert.pt").exists():
        save_s3prl(args.folder)
    import_s3prl_nn()
    exp = train(
        args.folder,
        stock_config(args.folder, args.layers),
        args.num_train,
        args.max_epoch,
    )
    converted = args.folder / "exp" / "asr_ensemble"
    convert_model(exp / "config.yaml", exp / MODEL, converted)
    outputs = {}
    wavs = read_speech(args.folder / "data" / "test", args.num_test)
    for name, folder in (("fused", exp), ("ensemble", converted)):
        model, _ = ASRTask.build_model_from_file(
            folder / "config.yaml", folder / MODEL, "cpu"
        )
        model.eval()
        outputs[name] = {n: list(run(model, wavs, n)) for n in (1, args.batch_size)}
        size = (folder / MODEL).stat().st_size / 2**20
        print(f"{name}: checkpoint of {size:.1f} MB")
    n = args.batch_size
    fused, ensemble = outputs["fused"], outputs["ensemble"]
    rows = [
        ["ensemble alone, from fused alone", *differences(ensemble[1], fused[1])],
        [f"fused, batches of {n}, from alone", *differences(fused[n], fused[1])],
        [
            f"ensemble, batches of {n}, from alone",
            *differences(ensemble[n], ensemble[1]),
        ],
    ]
    head = ["", "features", "log probabilities", "frames with another token"]
    print(tabulate(rows, head, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
