#!/usr/bin/env python3
"""What a GPU does: features, extraction to disk, training and decoding, in at most 8 minutes.

Two large models, WavLM and HuBERT, with random weights: speed and memory do not depend on
their values. Each is measured alone on the device, so let nobody else use it. It prints tables
in Markdown for docs/benchmarks.md, and what there was no time, or memory, for.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --size tiny    # whether it works
"""

import argparse
import gc
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile
import torch
import transformers
from espnet2.asr.ctc import CTC
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
from espnet2.asr.espnet_model import ESPnetASRModel
from frontend import (
    FAMILIES,
    FS,
    Batch,
    bare_models,
    ensemble_s3prl,
    ensemble_transformers,
    fused,
    save_s3prl,
    save_transformers,
    speech,
)
from tabulate import tabulate
from torch import Tensor
from torch.nn import Module
from torch.utils.flop_counter import FlopCounterMode

from espnet_ensemble import FrontendConf
from espnet_ensemble.decoding.decoder import DecodeConf, Decoded, Decoder
from espnet_ensemble.decoding.greedy import GreedySearch
from espnet_ensemble.decoding.sources import AudioFiles
from espnet_ensemble.decoding.vocabulary import Vocabulary
from espnet_ensemble.feature_cache.identity import DataSet
from espnet_ensemble.feature_cache.shard import ShardConf, ShardExtractor, plan_shards
from espnet_ensemble.integrations.espnet2.model import ESPnetCTCModel

TOKENS = ("<blank>", "<unk>", "<space>", *"abcdefghijklmnopqrstuvwxyz'", "<sos/eos>")
STABLE = dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)
#: What transformers' configurations differ in from their defaults, which are of base size.
SIZES: dict[str, dict[str, Any]] = {
    "large": dict(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        **STABLE,
    ),
    "base": {},
    "tiny": dict(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        **STABLE,
    ),
}
DTYPES = {"float32": torch.float32, "TF32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass
class Run:
    """The device, how much time is left, and what could not be done.

    Attributes:
        device: Where all is measured.
        end: When it has to be over, by ``time.monotonic()``.
        least: Seconds that a figure is measured for, at least.
        skipped: What was left out, and why.
    """

    device: torch.device
    end: float
    least: float
    skipped: list[str] = field(default_factory=list)

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize()

    @contextmanager
    def part(self, name: str, seconds: float) -> Iterator[bool]:
        """A part that takes some seconds: whether to do it; what fails is noted."""
        there_is_time = time.monotonic() + seconds < self.end
        if not there_is_time:
            self.skipped.append(f"{name}: no time was left")
        try:
            yield there_is_time
        except torch.OutOfMemoryError:
            self.skipped.append(f"{name}: out of memory")
        finally:
            gc.collect()
            if self.is_cuda:
                torch.cuda.empty_cache()

    def seconds(self, work: Callable[[], object]) -> float:
        """Time some work: the mean of as many times as fit, after two that are not counted."""
        for _ in range(2):
            work()
        self.wait()
        start, times = time.perf_counter(), 0
        while times < 3 or time.perf_counter() - start < self.least:
            work()
            times += 1
            self.wait()
        return (time.perf_counter() - start) / times

    def waits(self, work: Callable[[], object]) -> str:
        """How often the host waits for the device, as CUDA says."""
        if not self.is_cuda:
            return "-"
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                work()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return str(sum("synchronizing" in str(w.message) for w in found))

    def peak(self, work: Callable[[], object]) -> str:
        """Most memory that the device holds in the meantime, in GB."""
        if not self.is_cuda:
            return "-"
        torch.cuda.reset_peak_memory_stats()
        work()
        self.wait()
        return f"{torch.cuda.max_memory_allocated() / 1e9:.1f}"


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Whether products of float32 are TF32's."""
    is_tf32 = name == "TF32"
    torch.backends.cuda.matmul.allow_tf32 = is_tf32
    torch.backends.cudnn.allow_tf32 = is_tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False


def report(title: str, headers: list[str], rows: list[list[str]]) -> None:
    """Print a table."""
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    print(f"{title}\n\n{table}\n", flush=True)


def matrix_rates(run: Run, size: int) -> dict[str, float]:
    """Operations per second of a product of two square matrices, in each precision."""
    rates = {}
    for name, dtype in DTYPES.items():
        with precision(name):
            x = torch.randn(size, size, device=run.device, dtype=dtype)
            rates[name] = 2 * size**3 / run.seconds(lambda x=x: x @ x)
    report(
        f"Matrix rate ({size} x {size})",
        ["precision", "TFLOP/s"],
        [[name, f"{rate / 1e12:.3g}"] for name, rate in rates.items()],
    )
    return rates


def operations(run: Run, models: list[Module], batch: Batch) -> float:
    """Operations of the bare models for a second of speech."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for model in models:
            model(batch[0].to(run.device))
    return counter.get_total_flops() / (float(batch[1].sum()) / FS)


def compare_features(
    run: Run, folder: Path, batches: dict[str, Batch], rates: dict[str, float]
) -> None:
    """Features of the ensemble beside the bare models' and `fused`."""

    def bare(dtype: torch.dtype) -> Callable[[Batch], object]:
        models = [m.to(run.device, dtype) for m in bare_models(folder)]
        return lambda batch: [model(batch[0].to(dtype)) for model in models]

    def ours(make, dtype: torch.dtype) -> Callable[[Batch], object]:
        model = make(folder, str(dtype).removeprefix("torch.")).to(run.device)
        return lambda batch: model(*batch)

    def theirs(dtype: torch.dtype) -> Callable[[Batch], object]:
        model = fused(folder).to(run.device)

        def forward(batch: Batch) -> object:
            is_half = dtype != torch.float32
            with torch.autocast(run.device.type, dtype) if is_half else nullcontext():
                return model(*batch)

        return forward

    ways = {
        "ensemble, transformers": lambda dtype: ours(ensemble_transformers, dtype),
        "bare transformers": bare,
        "ensemble, S3PRL": lambda dtype: ours(ensemble_s3prl, dtype),
        "fused": theirs,
    }
    models = [model.to(run.device) for model in bare_models(folder)]
    per_second = operations(run, models, next(iter(batches.values())))
    del models
    rows = []
    for dtype in (torch.bfloat16, torch.float32):  # the fastest first
        names = [name for name, of_name in DTYPES.items() if of_name == dtype]
        for way, make in ways.items():
            part = f"features, {', '.join(names)}, {way}"
            with run.part(part, 30) as there_is_time:
                if not there_is_time:
                    continue
                forward = make(dtype)
                for name in names:
                    least = per_second / rates[name]
                    for title, on_host in batches.items():
                        figures = forward_figures(run, forward, on_host, name, least)
                        rows.append([name, way, title, *figures])
                del forward
    report(
        f"Features ({per_second / 1e9:.3g} GFLOP for a second of speech)",
        [
            *("precision", "way", "batch", "s of speech per s", "of the matrix rate"),
            *("peak memory, GB", "waits"),
        ],
        rows,
    )


@torch.no_grad()
def forward_figures(
    run: Run, forward, on_host: Batch, name: str, least: float
) -> list[str]:
    """Speed, share of the matrix rate, memory and waits of a forward pass."""
    batch = tuple(x.to(run.device) for x in on_host)
    speech_seconds = float(on_host[1].sum()) / FS

    def work() -> object:
        return forward(batch)

    with precision(name):
        speed = speech_seconds / run.seconds(work)
        shares = f"{100 * least * speed:.0f} %"
        return [f"{speed:.0f}", shares, run.peak(work), run.waits(work)]


@torch.no_grad()
def compare_results(run: Run, folder: Path) -> None:
    """Whether the ensemble over S3PRL gives what `fused` gives, where nothing is padded."""
    with run.part("equal results", 30) as there_is_time:
        if not there_is_time:
            return
        batch = [x.to(run.device) for x in speech([2.0, 2.0])]
        # It projects each model's features; these are before that.
        parts = fused(folder).to(run.device).frontends
        expected = torch.cat([part(*batch)[0] for part in parts], dim=-1)
        found = ensemble_s3prl(folder).to(run.device)(*batch)[0]
        error = float((found - expected).norm() / expected.norm())
        print(f"Ensemble over S3PRL and fused, same weights: {error:.1e} apart\n")


def asr_model(frontend: Module) -> ESPnetASRModel:
    """ESPnet's model: two transformer layers of 256 units and CTC over a frontend."""
    encoder = TransformerEncoder(
        frontend.output_size(),
        output_size=256,
        linear_units=1024,
        num_blocks=2,
        input_layer="linear",
    )
    return ESPnetASRModel(
        vocab_size=len(TOKENS),
        token_list=list(TOKENS),
        frontend=frontend,
        specaug=None,
        normalize=None,
        preencoder=None,
        encoder=encoder,
        postencoder=None,
        decoder=None,
        ctc=CTC(len(TOKENS), 256),
        joint_network=None,
        ctc_weight=1.0,
        report_cer=False,
        report_wer=False,
    )


def compare_training(run: Run, folder: Path, batch: Batch) -> None:
    """A step of training: from audio with the ensemble and `fused`, and from features."""
    wavs, lengths = batch
    text = torch.randint(2, len(TOKENS) - 1, (len(wavs), 8))
    targets = (text, torch.full((len(wavs),), 8))
    rows: list[list[str]] = []

    def step(
        name: str, frontend: Module, *speech_and_lengths: Tensor, amp=False
    ) -> None:
        model = asr_model(frontend).to(run.device).train()
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
        on_host = [x.pin_memory() if run.is_cuda else x for x in speech_and_lengths]

        def work() -> None:
            given = [x.to(run.device, non_blocking=True) for x in (*on_host, *targets)]
            optimizer.zero_grad()
            with torch.autocast(run.device.type, torch.bfloat16, enabled=amp):
                loss, _, _ = model(*given)
            loss.backward()
            optimizer.step()

        seconds = run.seconds(work)
        speed = float(lengths.sum()) / FS / seconds
        rows.append([name, f"{speed:.0f}", run.peak(work), run.waits(work)])

    with run.part("training with fused, bfloat16 by autocast", 30) as there_is_time:
        if there_is_time:
            frontend = fused(folder)
            for parameter in frontend.parameters():
                parameter.requires_grad_(False)
            step("fused, bfloat16 by autocast", frontend, *batch, amp=True)
    for make, name in (
        (ensemble_s3prl, "ensemble, S3PRL, bfloat16"),
        (ensemble_transformers, "ensemble, transformers, bfloat16"),
    ):
        with run.part(f"training with {name}", 30) as there_is_time:
            if there_is_time:
                step(name, make(folder, "bfloat16"), *batch, amp=True)
    with run.part("training from features", 15) as there_is_time:
        if there_is_time:
            frontend = ensemble_transformers(folder, "bfloat16")
            num_frames = (lengths - 80) // 320
            feats = torch.randn(len(wavs), int(num_frames.max()), frontend.total_size)
            step("ensemble, features from host memory", frontend, feats, num_frames)
    headers = ["training step", "s of speech per s", "peak memory, GB", "waits"]
    report("Training", headers, rows)


def write_speech(folder: Path, seconds: float, number: int) -> DataSet:
    """A data set of noise."""
    generator = torch.Generator().manual_seed(0)
    paths, samples = {}, {}
    folder.mkdir()
    for index in range(number):
        utt_id = f"utt{index:04}"
        path = folder / f"{utt_id}.wav"
        wav = 0.1 * torch.randn(int(seconds * FS), generator=generator)
        soundfile.write(path, wav.numpy(), FS, subtype="PCM_16")
        paths[utt_id], samples[utt_id] = str(path), len(wav)
    for name, table in (("wav.scp", paths), ("utt2num_samples", samples)):
        lines = [f"{utt_id} {value}\n" for utt_id, value in table.items()]
        (folder / name).write_text("".join(lines))
    return DataSet(folder, paths, samples)


def measure_extraction(run: Run, folder: Path, data: DataSet, seconds: float) -> None:
    """Features of one model, from audio files to an archive."""
    with run.part("extraction to disk", 45) as there_is_time:
        if not there_is_time:
            return
        rows = []
        for storage in ("float16", "int8"):
            conf = FrontendConf.parse(
                {"upstreams": [str(folder / FAMILIES[0])], "dtype": "bfloat16"}
            )
            shard_conf = ShardConf(conf, storage, batch_seconds=seconds, skip=False)
            extractor = ShardExtractor(shard_conf, str(run.device))
            ark = folder / storage
            ark.mkdir()
            (shard,) = plan_shards([ark], data, FS, shard_seconds=float("inf"))
            list(extractor.make(shard))
            start = time.perf_counter()
            list(extractor.make(shard))
            speed = shard.seconds / (time.perf_counter() - start)
            rows.append([storage, f"{speed:.0f}"])
        report("Extraction, WavLM, bfloat16", ["storage", "s of speech per s"], rows)


def measure_decoding(run: Run, folder: Path, data: DataSet, seconds: float) -> None:
    """Greedy decoding with both models, from audio files to transcripts."""
    with run.part("greedy decoding", 45) as there_is_time:
        if not there_is_time:
            return
        frontend = ensemble_transformers(folder, "bfloat16")
        model = ESPnetCTCModel(
            asr_model(frontend).to(run.device).eval(),
            Vocabulary(TOKENS, "".join),
            FS,
            argparse.Namespace(frontend="ensemble"),
        )
        source = AudioFiles(data.data_dir / "wav.scp", FS)
        decoder = Decoder(model, GreedySearch(), DecodeConf(batch_seconds=seconds))

        def work() -> None:
            found = list(decoder.decode(source))
            assert all(isinstance(x, Decoded) for x in found)

        work()
        start = time.perf_counter()
        work()
        rate = sum(source.lengths.values()) / FS / (time.perf_counter() - start)
        report(
            "Greedy decoding, two models, bfloat16",
            ["batch", "times real time (RTFx)"],
            [[f"{seconds:.0f} s", f"{rate:.0f}"]],
        )


def get_parser() -> argparse.ArgumentParser:
    """Options of this script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    parser.add_argument("--size", choices=SIZES, default="large")
    parser.add_argument(
        "--seconds", type=float, default=480, help="it takes, at most (480)"
    )
    parser.add_argument(
        "--batch_seconds",
        type=float,
        nargs="+",
        default=None,
        help="seconds of speech in a batch, of utterances of 15 s (60 240 960)",
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Measure, and print tables."""
    args = get_parser().parse_args(cmd)
    begin = time.monotonic()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    is_tiny, device = args.size == "tiny", torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: expected a GPU, found none")
    run = Run(device, begin + args.seconds, 0.0 if is_tiny else 1.0)
    of_one = 0.5 if is_tiny else 15.0
    sizes = args.batch_seconds or ([1.0] if is_tiny else [60.0, 240.0, 960.0])
    batches = {
        f"{number} x {of_one:g} s": speech([of_one] * number)
        for number in (max(1, round(size / of_one)) for size in sizes)
    }
    most = list(batches.values())[-1]
    is_cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if is_cuda else "CPU"
    print(f"{name}; {args.size}; torch {torch.__version__}, ", end="")
    print(f"transformers {transformers.__version__}\n")
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        rates = matrix_rates(run, 256 if is_tiny else 8192)
        save_transformers(folder, SIZES[args.size])
        save_s3prl(folder, SIZES[args.size])
        compare_features(run, folder, batches, rates)
        compare_results(run, folder)
        compare_training(run, folder, most)
        data = write_speech(folder / "data", of_one, 4 if is_tiny else 256)
        measure_extraction(run, folder, data, sizes[-1])
        measure_decoding(run, folder, data, sizes[-1])
    print(
        f"{time.monotonic() - begin:.0f} s. Skipped: {'; '.join(run.skipped) or 'nothing'}"
    )


if __name__ == "__main__":
    main()
