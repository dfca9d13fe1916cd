# Where corpora are. Empty: give the folder here. "downloads": the recipe gets it itself.
# shellcheck shell=bash disable=SC2034

MINI_SYNTH=downloads/mini_synth
