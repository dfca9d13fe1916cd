# Where the recipe's corpora are. Sourced by local/data.sh.
# shellcheck shell=bash disable=SC2034

# "downloads": stage 1 gets them, 0.6 GB and 1.3 GB. Edit them where you have them.

# The folder that has 1h and 9h in it, such as /data/librispeech_finetuning.
LIBRILIGHT=downloads
# The folder that has dev-clean, dev-other, ... in it, such as /data/LibriSpeech.
LIBRISPEECH=downloads
