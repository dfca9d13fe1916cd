#!/usr/bin/env bash
# After stage 13: a picture of the training and the result, and some transcripts.
# Usage: local/score.sh exp/asr_...

set -euo pipefail

python3 -m espnet_ensemble.bin.show_result "$@"
