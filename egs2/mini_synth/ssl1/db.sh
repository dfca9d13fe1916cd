# Where the recipe's corpus is. Sourced by local/data.sh.
# shellcheck shell=bash disable=SC2034

# The folder that stage 1 writes the recordings into: edit it to have them elsewhere.
MINI_SYNTH=downloads/mini_synth
