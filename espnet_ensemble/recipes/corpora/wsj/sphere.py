"""NIST SPHERE files, as they are or compressed with shorten."""

import os
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from espnet_ensemble.data.audio import AudioError

FS = 16000
_MAGIC = b"NIST_1A\n"
# What all of the corpus's recordings have.
_EXPECTED = {"channel_count": "1", "sample_rate": str(FS), "sample_n_bytes": "2"}
_PCM, _SHORTEN = "pcm", "pcm,embedded-shorten"


@dataclass(frozen=True)
class Header:
    """A file's own account of its samples.

    Attributes:
        num_samples: Their number.
        checksum: Their sum modulo 65536; None: it does not say.
    """

    num_samples: int
    checksum: int | None


def read_header(path: Path) -> Header:
    """Read the header, and see that the file has audio that can be decoded.

    Raises:
        AudioError: If the file is missing, is no SPHERE file, is cut off where that can be
            seen without decoding it, or is not 16 kHz, 16 bit, one channel.
    """
    fields, num_bytes = _read_fields(path)
    for name, value in _EXPECTED.items():
        if fields.get(name) != value:
            found = fields.get(name, "none")
            raise AudioError(f"{path}: {name}: expected {value}, found {found}")
    coding = fields.get("sample_coding", _PCM)
    if coding != _PCM and not coding.startswith(_SHORTEN):
        raise AudioError(
            f"{path}: sample_coding: expected {_PCM} or {_SHORTEN}, found {coding}"
        )
    num_samples = _number(path, fields, "sample_count")
    least = 2 * num_samples if coding == _PCM else 1
    if num_bytes < least:
        raise AudioError(
            f"{path}: cut off: expected at least {least} bytes of samples, found "
            f"{num_bytes}"
        )
    checksum = None
    if "sample_checksum" in fields:
        checksum = _number(path, fields, "sample_checksum")
    return Header(num_samples, checksum)


def decode(path: Path) -> np.ndarray:
    """Decode a file.

    Returns:
        Samples (samples,), int16, 16 kHz.

    Raises:
        AudioError: If it is not a file that :func:`read_header` accepts, or its samples are
            not as many, or not those, that its header promises.
    """
    header = read_header(path)
    try:
        with av.open(str(path), format="nistsphere") as container:
            frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    except av.FFmpegError as error:
        raise AudioError(f"{path}: not decodable, maybe cut off: {error}") from error
    samples = np.concatenate(frames, axis=1)[0] if frames else np.zeros(0, np.int16)
    if len(samples) != header.num_samples:
        raise AudioError(
            f"{path}: cut off: expected {header.num_samples} samples, as its header says, "
            f"found {len(samples)}"
        )
    checksum = int(samples.sum(dtype=np.int64)) % 65536
    if header.checksum not in (None, checksum):
        raise AudioError(
            f"{path}: damaged: expected {header.checksum}, its header's sample_checksum, "
            f"as the sum of its samples, found {checksum}"
        )
    return samples


def _read_fields(path: Path) -> tuple[dict[str, str], int]:
    """The header's fields, and the number of bytes after it."""
    try:
        with open(path, "rb") as file:
            magic, size = file.readline(16), file.readline(16).strip()
            if magic != _MAGIC or not size.isdigit():
                raise AudioError(f"{path}: expected a SPHERE file, found {magic!r} ...")
            file.seek(0)
            header = file.read(int(size)).decode("latin-1")
            num_bytes = file.seek(0, os.SEEK_END) - int(size)
    except OSError as error:
        raise AudioError(f"{path}: not readable: {error.strerror}") from error
    lines, end, _ = header.partition("\nend_head")
    if not end:
        raise AudioError(f"{path}: cut off in its header")
    # A name, a type (-i, -r, or -s and a length), a value.
    fields = (line.split(maxsplit=2) for line in lines.split("\n")[2:])
    return {f[0]: f[2].strip() for f in fields if len(f) == 3}, num_bytes


def _number(path: Path, fields: dict[str, str], name: str) -> int:
    value = fields.get(name, "none")
    if not value.isdecimal():
        raise AudioError(f"{path}: {name}: expected a number, found {value}")
    return int(value)
