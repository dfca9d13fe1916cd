#!/usr/bin/env python3
"""The ensemble frontend beside ESPnet's `fused` and the bare transformers models.

Two base-size models, WavLM and HuBERT, with random weights: speed, memory and sizes do
not depend on their values. Both sides of every row run on the same weights, on the same
machine, in turn; loading and memory are measured in a fresh process each.

    python benchmarks/frontend.py
"""

import argparse
import dataclasses
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor

FAMILIES = ("wavlm", "hubert")
FS = 16000
Batch = tuple[Tensor, Tensor]


def save_s3prl(folder: Path, options: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Write checkpoints in the format that S3PRL publishes.

    Args:
        folder: Where to.
        options: What transformers' configuration would have in place of base size.
    """
    from s3prl.upstream.hubert import hubert_model
    from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig

    size = fairseq_options(options)
    conf = dict(relative_position_embedding=True, num_buckets=320, max_distance=800)
    wavlm = WavLM(WavLMConfig({**conf, "gru_rel_pos": True, **size}))
    torch.save(
        {"cfg": wavlm.cfg.__dict__, "model": wavlm.state_dict()}, folder / "wavlm.pt"
    )

    task_cfg = hubert_model.HubertPretrainingConfig(label_rate=50.0)
    model_cfg = hubert_model.HubertConfig(label_rate=50.0, **size)
    symbols = [[str(unit) for unit in range(500)]]
    hubert = hubert_model.HubertModel(model_cfg, task_cfg, symbols)
    checkpoint = {
        "task_cfg": dataclasses.asdict(task_cfg),
        "model_cfg": dataclasses.asdict(model_cfg),
        "model_weight": hubert.state_dict(),
        "dictionaries_symbols": symbols,
    }
    torch.save(checkpoint, folder / "hubert.pt")


def fairseq_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What S3PRL's models, which are fairseq's, call options of transformers'."""
    names = {
        "hidden_size": "encoder_embed_dim",
        "num_hidden_layers": "encoder_layers",
        "num_attention_heads": "encoder_attention_heads",
        "intermediate_size": "encoder_ffn_embed_dim",
        "num_conv_pos_embeddings": "conv_pos",
        "num_conv_pos_embedding_groups": "conv_pos_groups",
        "do_stable_layer_norm": "layer_norm_first",
        "conv_bias": "conv_bias",
    }
    found = {names[key]: value for key, value in options.items() if key in names}
    if options.get("feat_extract_norm") == "layer":
        found["extractor_mode"] = "layer_norm"
    if "conv_dim" in options:
        n = options["conv_dim"][0]
        found["conv_feature_layers"] = (
            f"[({n},10,5)] + [({n},3,2)] * 4 + [({n},2,2)] * 2"
        )
    return found


def save_transformers(
    folder: Path, options: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Write checkpoints as on the Hugging Face hub.

    Args:
        folder: Where to.
        options: What the configuration has in place of base size.
    """
    import transformers

    for name, family in (("wavlm", "WavLM"), ("hubert", "Hubert")):
        config = getattr(transformers, f"{family}Config")(**options)
        model = getattr(transformers, f"{family}Model")(config)
        model.save_pretrained(folder / name)
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder / name)


def fused(folder: Path) -> torch.nn.Module:
    """ESPnet's frontend over the S3PRL checkpoints."""
    from espnet2.asr.frontend.fused import FusedFrontends

    from espnet_ensemble.upstream.s3prl_hub import import_s3prl_nn

    import_s3prl_nn()
    confs = [
        dict(
            frontend_type="s3prl",
            frontend_conf=dict(
                upstream=f"{f}_local", path_or_url=str(folder / f"{f}.pt")
            ),
            download_dir=None,
            multilayer_feature=False,
        )
        for f in FAMILIES
    ]
    return FusedFrontends(confs).eval()


def ensemble_s3prl(folder: Path, dtype: str = "float32") -> torch.nn.Module:
    """Our frontend over the S3PRL checkpoints."""
    from espnet_ensemble import EnsembleFrontend

    upstreams = [
        {"name": f"{f}_local", "path_or_url": str(folder / f"{f}.pt")} for f in FAMILIES
    ]
    return EnsembleFrontend(upstreams, dtype=dtype).eval()


def ensemble_transformers(folder: Path, dtype: str = "float32") -> torch.nn.Module:
    """Our frontend over the transformers checkpoints."""
    from espnet_ensemble import EnsembleFrontend

    return EnsembleFrontend([str(folder / f) for f in FAMILIES], dtype=dtype).eval()


def ensemble_bfloat16(folder: Path) -> torch.nn.Module:
    """The same with frozen weights in half the size."""
    return ensemble_transformers(folder, "bfloat16")


FRONTENDS: dict[str, Callable[[Path], torch.nn.Module]] = {
    "fused": fused,
    "ensemble_s3prl": ensemble_s3prl,
    "ensemble_transformers": ensemble_transformers,
    "ensemble_bfloat16": ensemble_bfloat16,
}


def resident_memory() -> float:
    """Memory of this process that is in RAM, in MB."""
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def import_libraries(name: str) -> None:
    """Import what a frontend imports while it is built."""
    if name == "fused":
        import espnet2.asr.frontend.fused  # noqa: F401

        from espnet_ensemble.upstream.s3prl_hub import import_s3prl_nn

        import_s3prl_nn()
    elif name == "ensemble_s3prl":
        import s3prl.upstream.hubert.hubconf
        import s3prl.upstream.wavlm.hubconf  # noqa: F401
    else:
        from transformers import HubertModel, WavLMModel  # noqa: F401


def measure_loading(name: str, folder: Path) -> dict[str, float]:
    """Build a frontend and a checkpoint with it, in this process.

    Returns:
        Seconds to build it, with the imports that it needs beside torch and ESPnet;
        memory that it added after these imports; memory of the whole process; size of
        the checkpoint. All sizes in MB.
    """
    from espnet2.asr.ctc import CTC
    from espnet2.asr.encoder.transformer_encoder import TransformerEncoder

    start = time.perf_counter()
    import_libraries(name)
    before = resident_memory()
    frontend = FRONTENDS[name](folder)
    seconds, process = time.perf_counter() - start, resident_memory()
    model = torch.nn.ModuleDict(
        dict(
            frontend=frontend,
            encoder=TransformerEncoder(
                frontend.output_size(),
                output_size=256,
                linear_units=1024,
                num_blocks=2,
                input_layer="linear",
            ),
            ctc=CTC(odim=32, encoder_output_size=256),
        )
    )
    checkpoint = folder / f"{name}.pth"
    torch.save(model.state_dict(), checkpoint)
    return {
        "seconds": seconds,
        "memory": process - before,
        "process": process,
        "checkpoint": checkpoint.stat().st_size / 2**20,
    }


def in_fresh_process(name: str, folder: Path) -> dict[str, float]:
    """Run :func:`measure_loading` in a process of its own."""
    command = [sys.executable, __file__, "--load", name, "--folder", str(folder)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def bare_models(
    folder: Path, families: Sequence[str] = FAMILIES
) -> list[torch.nn.Module]:
    """The transformers models."""
    from transformers import AutoModel

    return [AutoModel.from_pretrained(folder / f).eval() for f in families]


def bare_transformers(
    folder: Path, families: Sequence[str] = FAMILIES
) -> Callable[[Batch], None]:
    """The transformers models' forward passes, one after the other."""
    models = bare_models(folder, families)

    def forward(batch: Batch) -> None:
        wavs, lengths = batch
        mask = None
        if (lengths < wavs.size(1)).any():
            mask = (torch.arange(wavs.size(1)) < lengths[:, None]).long()
        for model in models:
            model(wavs, attention_mask=mask)

    return forward


def speech(seconds: list[float]) -> Batch:
    """Noise of the given durations, zero-padded."""
    lengths = torch.tensor([int(s * FS) for s in seconds])
    wavs = 0.1 * torch.randn(len(seconds), int(lengths.max()))
    return wavs * (torch.arange(wavs.size(1)) < lengths[:, None]), lengths


@torch.no_grad()
def compare_forward(
    one: Callable[[Batch], None],
    two: Callable[[Batch], None],
    batch: Batch,
    runs: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float, float]:
    """Time two forward passes in turn.

    Returns:
        Median seconds of each, and the median over the turns of the ratio one / two.
    """
    times = []
    for run in range(runs + 1):
        turn = []
        for forward in (one, two):
            start = clock()
            forward(batch)
            turn.append(clock() - start)
        if run > 0:  # the first warms up
            times.append(turn)
    ones, twos = zip(*times, strict=True)
    ratio = statistics.median(a / b for a, b in times)
    return statistics.median(ones), statistics.median(twos), ratio


@torch.no_grad()
def padding_error(frontend: torch.nn.Module, batch: Batch) -> tuple[float, int]:
    """What a batch does to an utterance's features and number of frames.

    Returns:
        Largest relative error of an utterance's features against the same utterance
        alone, and the number of utterances whose number of frames differs.
    """
    wavs, lengths = batch
    feats, feats_lens = frontend(wavs, lengths)
    errors, wrong = [], 0
    for item, length in enumerate(lengths.tolist()):
        alone, alone_lens = frontend(
            wavs[item : item + 1, :length], lengths[item : item + 1]
        )
        frames = int(alone_lens[0])
        ours, alone = feats[item, :frames], alone[0, :frames]
        errors.append(float((ours - alone).norm() / alone.norm()))
        wrong += int(feats_lens[item]) != frames
    return max(errors), wrong


def report_loading(folder: Path) -> None:
    """Print loading time, memory and checkpoint size of each frontend."""
    sides = {name: in_fresh_process(name, folder) for name in FRONTENDS}
    units = {
        "seconds": "loading, s",
        "memory": "memory added, MB",
        "process": "memory of the process, MB",
        "checkpoint": "checkpoint, MB",
    }
    rows = []
    for key, title in units.items():
        theirs = sides["fused"][key]
        row = [title, f"{theirs:.1f}"]
        for name in list(FRONTENDS)[1:]:
            row += [f"{sides[name][key]:.1f}", f"{theirs / sides[name][key]:.1f} x"]
        rows.append(row)
    headers = ["", "fused", "S3PRL", "less", "transformers", "less", "bfloat16", "less"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))
    print(flush=True)


def report_bare(folder: Path, runs: int, seconds: Sequence[float]) -> None:
    """Print the processor's time of a forward pass against the bare models'."""
    ours, bare = ensemble_transformers(folder), bare_transformers(folder)
    a, b, ratio = compare_forward(
        lambda batch: ours(*batch), bare, speech(list(seconds)), runs, time.process_time
    )
    print(f"ensemble {a:.2f} s, bare transformers {b:.2f} s, ratio {ratio:.3f}")


def report_forward(folder: Path, runs: int, seconds: Sequence[float]) -> None:
    """Print forward time against the bare models and `fused`."""
    padded = f"{', '.join(f'{s:g}' for s in seconds)} s"
    batches = {
        f"{len(seconds)} x {max(seconds):g} s": speech([max(seconds)] * len(seconds)),
        padded: speech(list(seconds)),
    }
    ours = ensemble_transformers(folder)
    bare = bare_transformers(folder)
    ours_s3prl, theirs = ensemble_s3prl(folder), fused(folder)
    rows = []
    for title, batch in batches.items():
        for name, one, two in (
            ("ensemble / bare transformers", lambda b: ours(*b), bare),
            ("ensemble / fused, S3PRL", lambda b: ours_s3prl(*b), lambda b: theirs(*b)),
        ):
            a, b, ratio = compare_forward(one, two, batch, runs)
            rows.append([title, name, f"{a:.2f}", f"{b:.2f}", f"{ratio:.3f}"])
    headers = ["batch", "what", "s", "s", "ratio"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))
    print(flush=True)

    rows = []
    batch = batches[padded]
    for name, frontend in (
        ("fused", theirs),
        ("ensemble, S3PRL", ours_s3prl),
        ("ensemble, transformers", ours),
    ):
        error, wrong = padding_error(frontend, batch)
        rows.append([name, f"{error:.1e}", f"{wrong} of {len(batch[1])}"])
    headers = [padded, "largest relative error", "wrong number of frames"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True), flush=True)


def get_parser() -> argparse.ArgumentParser:
    """Options of this script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each side")
    parser.add_argument(
        "--part", choices=["loading", "forward", "bare"], help="measure this alone"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        nargs="+",
        default=[8.0, 6.0, 4.0, 2.0],
        help="utterances of the padded batch of forward",
    )
    parser.add_argument("--load", choices=FRONTENDS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Run the comparison and print its tables."""
    args = get_parser().parse_args(cmd)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    if args.load:
        print(json.dumps(measure_loading(args.load, args.folder)))
        return
    print(f"torch {torch.__version__}, {os.cpu_count()} CPUs, {args.runs} runs\n")
    with tempfile.TemporaryDirectory() as folder:
        save_transformers(Path(folder))
        if args.part == "bare":
            report_bare(Path(folder), args.runs, args.seconds)
            return
        save_s3prl(Path(folder))
        if args.part != "forward":
            report_loading(Path(folder))
        if args.part != "loading":
            report_forward(Path(folder), args.runs, args.seconds)


if __name__ == "__main__":
    main()
