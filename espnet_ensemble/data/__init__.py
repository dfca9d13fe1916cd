"""Kaldi-style data directories: check and rearrange them, and make their audio."""
