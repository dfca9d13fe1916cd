"""Kaldi's matrices, read without running what a file may bring: kaldiio runs pickles."""

import struct
from typing import BinaryIO

import kaldiio
import numpy as np

#: What a matrix of a type begins with.
FLOAT, NUMPY, COMPRESSED = b"\0BFM ", b"NPY", b"\0BCM "


def read_matrix(ark: BinaryIO, magic: bytes = FLOAT) -> np.ndarray:
    """Read the matrix at which a file is.

    Args:
        ark: An archive, or another file of matrices.
        magic: The type that it must have: :data:`FLOAT`, :data:`NUMPY` or
            :data:`COMPRESSED`.

    Returns:
        (rows, columns), as it is stored; compressed ones as float32.

    Raises:
        ValueError: If there is none of this type, or it is cut off.

    Example:
        >>> import io
        >>> ark = io.BytesIO()
        >>> kaldiio.save_ark(ark, {"utt1": np.float32([[1, 2]])})
        >>> _ = ark.seek(len("utt1 "))
        >>> read_matrix(ark).tolist()
        [[1.0, 2.0]]
    """
    start = ark.tell()
    if ark.read(len(magic)) != magic:
        raise ValueError("expected a matrix of this type, found none")
    ark.seek(start)
    try:
        # A copy: of some types, kaldiio's array is read-only.
        return np.array(kaldiio.matio.read_kaldi(ark))
    except (AssertionError, EOFError, UnicodeError, struct.error) as error:
        raise ValueError("expected a matrix, found a part of one") from error
