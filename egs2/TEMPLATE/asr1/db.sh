# Where corpora are. Empty: give the folder here. "downloads": the recipe gets it itself.
# shellcheck shell=bash disable=SC2034

MINI_SYNTH=downloads/mini_synth
# The folder LibriSpeech itself.
LIBRISPEECH=downloads
# Libri-Light's folder librispeech_finetuning.
LIBRILIGHT=downloads
# LDC93S6A (or B) and LDC94S13A (or B): folders that hold the discs, 11-1.1 and so on.
WSJ0=
WSJ1=
