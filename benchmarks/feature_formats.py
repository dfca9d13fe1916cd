#!/usr/bin/env python3
"""The feature cache beside itself before, and beside other formats: sizes, writing, reading.

Features of 768 channels, of utterances of 1 to 6 s, as numbers with a mean, a scale and rare large
values of each channel. Every format gives float32, by its own reader; ours is also read through
ESPnet's data set of training, which copies what it gets. Each format has a process of its own, rounds
take turns, and a figure is the median. Seconds are of the processor: other work on the machine counts
less. Cold reading, after the system was told to forget the files, is in seconds of the clock.

    git worktree add /tmp/before <commit>
    python benchmarks/feature_formats.py --before /tmp/before
    python benchmarks/feature_formats.py float16 safetensors numpy_int8 lhotse_hdf5 lilcom arrow \
        webdataset zarr lance litdata

The others are asked for by their names and need ``pip install lhotse h5py lilcom pyarrow
webdataset zarr pylance litdata``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tabulate import tabulate

REPOSITORY = Path(__file__).resolve().parents[1]
SIZE, FRAMES_PER_SECOND, OF_ARCHIVE = 768, 50, 200
STORAGES = ("float32", "float16", "int8")
Feats = dict[str, np.ndarray]
#: utterance's id -> features.
Read = Callable[[str], np.ndarray]
#: Format -> what writes it, and what opens it: folder -> a reader of utterances; or, where it
#: has no such, folder -> all of them in order.
FORMATS: dict[str, "tuple[Callable[[Path, Feats], None], Callable[[Path], Read]]"] = {}


def make_feats(num_utts: int) -> Feats:
    """Features like those of an upstream: channels of unequal scale, some with outliers."""
    rng = np.random.default_rng(0)
    mean, scale = rng.normal(0, 0.2, SIZE), rng.lognormal(-1.5, 0.5, SIZE)
    feats = {}
    for number in range(num_utts):
        frames = int(rng.uniform(1, 6) * FRAMES_PER_SECOND)
        x = mean + scale * rng.standard_t(8, (frames, SIZE))
        feats[f"utt{number:06}"] = x.astype(np.float32)
    return feats


def parts(feats: Feats) -> Iterator[list[str]]:
    """Utterances of an archive each."""
    utt_ids = list(feats)
    for start in range(0, len(utt_ids), OF_ARCHIVE):
        yield utt_ids[start : start + OF_ARCHIVE]


# Ours, now and before.


def write_cache(storage: str, folder: Path, feats: Feats) -> None:
    """Write a cache of one member, of whichever version is imported."""
    from espnet_ensemble.feature_cache import archive
    from espnet_ensemble.feature_cache.dataset import write_combination
    from espnet_ensemble.feature_cache.identity import AudioIdentity, FeatureIdentity
    from espnet_ensemble.feature_cache.member import Member, MemberInfo

    identity = FeatureIdentity(
        upstream="wavlm_base", layer="last", layers=[12], extra_conf=None,
        fingerprint="0123456789abcdef", feature_size=SIZE, fs=16000, hop_length=320,
        speech_fs=16000, dtype="float32",
    )  # fmt: skip
    audio = AudioIdentity.parse("57bdcbc54ded15f4ea1f185f310eed66 60 17")
    member = Member(folder / "wavlm" / "train", MemberInfo(identity, storage))
    member.folder.mkdir(parents=True)
    if hasattr(archive, "append_feats"):
        _write_ark(member, feats, storage, audio)
    else:
        _write_safetensors(member, feats, storage, audio)
    write_combination(folder, [member], folder / "data")


def _write_safetensors(member, feats: Feats, storage: str, audio) -> None:
    import torch

    from espnet_ensemble.feature_cache.archive import ArchiveWriter, encode
    from espnet_ensemble.feature_cache.identity import AudioStates
    from espnet_ensemble.feature_cache.shard import archive_name

    with member.being_made(AudioStates({})):
        for number, utt_ids in enumerate(parts(feats)):
            writer = ArchiveWriter()
            for key in utt_ids:
                writer.add(key, encode(torch.from_numpy(feats[key]), storage), audio)
            writer.write(member.shards / archive_name(number), {})


def _write_ark(member, feats: Feats, storage: str, audio) -> None:
    from espnet_ensemble.feature_cache.archive import append_feats, write_index

    with member.being_made():
        for number, utt_ids in enumerate(parts(feats)):
            ark = member.shards / f"{number:04}.ark"
            with ark.open("wb") as file:
                entries = {
                    key: append_feats(file, key, feats[key], audio, storage)
                    for key in utt_ids
                }
            write_index(ark.with_suffix(".index"), entries)


def open_cache(folder: Path) -> Read:
    """The cache alone."""
    from espnet_ensemble.feature_cache.dataset import FeatureCache

    (path,) = folder.glob("combinations/*/*/members.yaml")
    return FeatureCache(path).__getitem__


def open_in_espnet(folder: Path) -> Read:
    """As ESPnet's training reads it."""
    from espnet2.train.dataset import ESPnetDataset

    import espnet_ensemble  # noqa: F401

    (path,) = folder.glob("combinations/*/*/members.yaml")
    dataset = ESPnetDataset([(str(path), "speech", "feature_cache")])
    return lambda utt_id: dataset[utt_id][1]["speech"]


for _storage in STORAGES:
    FORMATS[_storage] = (
        lambda folder, feats, storage=_storage: write_cache(storage, folder, feats),
        open_cache,
    )


# Others.


def register(name: str):
    """Register a function that writes a format and returns what opens it."""

    def add(pair: Callable[[], tuple]):
        write, read = pair()
        FORMATS[name] = (write, read)
        return pair

    return add


def lhotse_format(writer: str, reader: str):
    """A format of lhotse's: one file of all."""

    def write(folder: Path, feats: Feats) -> None:
        import lhotse

        half = writer == "NumpyHdf5Writer"
        with getattr(lhotse, writer)(folder / "feats") as file:
            keys = {
                key: file.write(key, x.astype(np.float16) if half else x.copy())
                for key, x in feats.items()
            }
        (folder / "keys.json").write_text(json.dumps([str(file.storage_path), keys]))

    def read(folder: Path) -> Read:
        import lhotse

        path, keys = json.loads((folder / "keys.json").read_text())
        file = getattr(lhotse.features.io, reader)(path)
        return lambda utt_id: file.read(keys[utt_id]).astype(np.float32)

    return lambda: (write, read)


register("lhotse_hdf5")(lhotse_format("NumpyHdf5Writer", "NumpyHdf5Reader"))
register("lilcom")(lhotse_format("LilcomChunkyWriter", "LilcomChunkyReader"))


@register("arrow")
def arrow():
    def write(folder: Path, feats: Feats) -> None:
        import pyarrow as pa

        schema = pa.schema([("feats", pa.list_(pa.float16()))])
        for number, utt_ids in enumerate(parts(feats)):
            with pa.OSFile(f"{folder}/{number:04}.arrow", "wb") as file:
                with pa.ipc.new_file(file, schema) as out:
                    for key in utt_ids:
                        x = pa.array(feats[key].astype(np.float16).ravel())
                        offsets = pa.array([0, len(x)], pa.int32())
                        column = pa.ListArray.from_arrays(offsets, x)
                        out.write(pa.record_batch([column], schema))

    def read(folder: Path) -> Read:
        import pyarrow as pa

        files = [
            pa.ipc.open_file(pa.memory_map(str(path)))
            for path in sorted(folder.glob("*.arrow"))
        ]

        def get(utt_id: str) -> np.ndarray:
            file, row = divmod(int(utt_id[3:]), OF_ARCHIVE)
            column = files[file].get_batch(row).column(0).values
            return column.to_numpy().reshape(-1, SIZE).astype(np.float32)

        return get

    return write, read


@register("webdataset")
def webdataset():
    def write(folder: Path, feats: Feats) -> None:
        import webdataset as wds

        for number, utt_ids in enumerate(parts(feats)):
            with wds.TarWriter(f"{folder}/{number:04}.tar") as out:
                for key in utt_ids:
                    x = feats[key].astype(np.float16)
                    out.write({"__key__": key, "npy": x})

    def read(folder: Path) -> Read:
        import webdataset as wds

        tars = sorted(map(str, folder.glob("*.tar")))
        samples = iter(wds.WebDataset(tars, shardshuffle=False).decode())
        # It has one order only.
        return lambda _: next(samples)["npy"].astype(np.float32)

    return write, read


@register("safetensors")
def safetensors():
    def write(folder: Path, feats: Feats) -> None:
        from safetensors.numpy import save_file

        for number, utt_ids in enumerate(parts(feats)):
            half = {key: feats[key].astype(np.float16) for key in utt_ids}
            save_file(half, folder / f"{number:04}.safetensors")

    def read(folder: Path) -> Read:
        from safetensors import safe_open

        files = [safe_open(path, "pt") for path in sorted(folder.glob("*.safetensors"))]

        def get(utt_id: str) -> np.ndarray:
            file = files[int(utt_id[3:]) // OF_ARCHIVE]
            return file.get_tensor(utt_id).float().numpy()

        return get

    return write, read


@register("numpy_int8")
def numpy_int8():
    """Levels of each channel and their scale, in an array of an archive, mapped."""

    def write(folder: Path, feats: Feats) -> None:
        for number, utt_ids in enumerate(parts(feats)):
            levels, scales = [], []
            for x in (feats[key] for key in utt_ids):
                least, step = x.min(0), np.ptp(x, 0) / 255
                levels.append(np.rint((x - least) / step).astype(np.uint8))
                scales.append([least, step])
            np.save(folder / f"{number:04}.npy", np.concatenate(levels))
            np.save(folder / f"{number:04}.scales.npy", np.array(scales))
            ends = np.cumsum([0, *map(len, levels)])
            np.save(folder / f"{number:04}.ends.npy", ends)

    def read(folder: Path) -> Read:
        names = sorted(path.name[:4] for path in folder.glob("*.ends.npy"))
        files = [
            [
                np.load(folder / f"{name}{kind}.npy", mmap_mode)
                for kind, mmap_mode in (("", "r"), (".scales", None), (".ends", None))
            ]
            for name in names
        ]

        def get(utt_id: str) -> np.ndarray:
            file, row = divmod(int(utt_id[3:]), OF_ARCHIVE)
            levels, scales, ends = files[file]
            least, step = scales[row]
            x = levels[ends[row] : ends[row + 1]] * step
            x += least
            return x

        return get

    return write, read


@register("zarr")
def zarr_format():
    """A group of each archive, without compression, which features in float16 do not take."""

    def write(folder: Path, feats: Feats) -> None:
        import zarr

        for number, utt_ids in enumerate(parts(feats)):
            group = zarr.open_group(folder / f"{number:04}.zarr", mode="w")
            for key in utt_ids:
                x = feats[key].astype(np.float16)
                group.create_array(key, data=x, chunks=x.shape, compressors=None)

    def read(folder: Path) -> Read:
        import zarr

        groups = [
            zarr.open_group(path, mode="r") for path in sorted(folder.glob("*.zarr"))
        ]

        def get(utt_id: str) -> np.ndarray:
            group = groups[int(utt_id[3:]) // OF_ARCHIVE]
            return group[utt_id][:].astype(np.float32)

        return get

    return write, read


@register("lance")
def lance_format():
    def write(folder: Path, feats: Feats) -> None:
        import lance
        import pyarrow as pa

        schema = pa.schema([("feats", pa.list_(pa.float16()))])

        def batches():
            for x in feats.values():
                column = pa.array([x.astype(np.float16).ravel()], schema.field(0).type)
                yield pa.record_batch([column], schema)

        lance.write_dataset(batches(), folder / "feats.lance", schema)

    def read(folder: Path) -> Read:
        import lance

        dataset = lance.dataset(folder / "feats.lance")

        def get(utt_id: str) -> np.ndarray:
            column = dataset.take([int(utt_id[3:])])["feats"].chunk(0).values
            return column.to_numpy().reshape(-1, SIZE).astype(np.float32)

        return get

    return write, read


@register("litdata")
def litdata_format():
    def write(folder: Path, feats: Feats) -> None:
        from litdata.streaming import Cache

        cache = Cache(str(folder), chunk_bytes="64MB")
        for number, x in enumerate(feats.values()):
            cache[number] = x.astype(np.float16)
        cache.done()
        cache.merge()

    def read(folder: Path) -> Read:
        from litdata import StreamingDataset

        dataset = StreamingDataset(str(folder))
        return lambda utt_id: dataset[int(utt_id[3:])].astype(np.float32)

    return write, read


# Running them.


def run_here(name: str, folder: Path, num_utts: int) -> dict[str, float]:
    """Write and read a format in this process."""
    import torch

    torch.set_num_threads(1)
    feats = make_feats(num_utts)
    hours = sum(map(len, feats.values())) / FRAMES_PER_SECOND / 3600
    write, read = FORMATS[name]
    start = time.process_time()
    write(folder, feats)
    figures = {"s/h": (time.process_time() - start) / hours}
    files = [path for path in folder.rglob("*") if path.is_file()]
    figures["MiB/h"] = sum(path.stat().st_size for path in files) / hours / 2**20
    get, error = read(folder), 0.0
    for key, x in feats.items():
        # Not Python's max, which takes NaN for less.
        off = np.linalg.norm(get(key) - x) / np.linalg.norm(x)
        error = float(np.maximum(error, off))
    figures["error"] = error
    figures["in order"] = _speed(read(folder), list(feats), time.process_time)
    if name in STORAGES:
        in_espnet = open_in_espnet(folder)
        figures["in ESPnet"] = _speed(in_espnet, list(feats), time.process_time)
    if name == "webdataset":
        return figures
    order = np.random.default_rng(1).permutation(list(feats)).tolist()
    figures["random"] = _speed(get, order, time.process_time)
    del get  # files that are mapped are not forgotten
    for path in files:
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)
    figures["cold"] = _speed(read(folder), order, time.perf_counter)
    return figures


def _speed(get: Read, order: list[str], clock: Callable[[], float]) -> float:
    """Utterances per second."""
    start = clock()
    for utt_id in order:
        get(utt_id)
    return len(order) / (clock() - start)


def measure(name: str, checkout: Path, num_utts: int) -> dict[str, float]:
    """Run a format in a process of its own, with the package of a checkout."""
    path = os.pathsep.join(filter(None, [str(checkout), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, "--run", name, folder, str(num_utts)],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument("--utterances", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="another checkout of this project")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        name, folder, num_utts = args.run
        print(json.dumps(run_here(name, Path(folder), int(num_utts))))
        return
    runs = [(name, name, REPOSITORY) for name in args.formats or STORAGES]
    if args.before:
        before = [name for name in STORAGES if name in (args.formats or STORAGES)]
        runs = [(f"{name}, before", name, args.before) for name in before] + runs
    found: dict[str, list[dict[str, float]]] = {title: [] for title, *_ in runs}
    for _ in range(args.rounds):
        for title, name, checkout in runs:
            found[title].append(measure(name, checkout, args.utterances))
    columns = {"MiB/h": ".0f", "s/h": ".2f", "error": ".1e"}
    speeds = ("in order", "random", "in ESPnet", "cold")
    columns |= dict.fromkeys(speeds, ".0f")
    rows = [
        [title]
        + [
            format(statistics.median(f[key] for f in figures), shape)
            if key in figures[0]
            else "-"
            for key, shape in columns.items()
        ]
        for title, figures in found.items()
    ]
    headings = ["format", "MiB an hour", "s to write an hour", "largest error"]
    headings += [f"utterances/s, {order}" for order in speeds]
    print(tabulate(rows, headings, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
