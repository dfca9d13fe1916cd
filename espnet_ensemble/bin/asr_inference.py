#!/usr/bin/env python3
"""``espnet2.bin.asr_inference`` with the plugin loaded."""

from espnet2.bin.asr_inference import get_parser, main

import espnet_ensemble  # noqa: F401

__all__ = ["get_parser", "main"]

if __name__ == "__main__":
    main()
