# Where a recipe's corpora are. Sourced by local/data.sh. A recipe has its own copy of this
# file, with its own corpora: edit that one.
# shellcheck shell=bash disable=SC2034

# MY_CORPUS=/data/my_corpus
