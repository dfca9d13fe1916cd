"""Versions of what behaves differently from one to the next."""

from importlib.metadata import version

#: Such as 202511.
ESPNET = int(version("espnet").partition(".")[0])
