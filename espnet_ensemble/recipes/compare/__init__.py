"""Several decodings of the same utterances, side by side."""
