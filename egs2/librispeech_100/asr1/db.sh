# Where the recipe's corpus is. Sourced by local/data.sh.
# shellcheck shell=bash disable=SC2034

# "downloads": stage 1 gets it, 7.7 GB. Edit it where you have it: give the folder that has
# train-clean-100, dev-clean, ... in it, such as /data/LibriSpeech.
LIBRISPEECH=downloads
