#!/usr/bin/env bash
# Stage 1: make the corpus and its data directories. Options are those of
# espnet_ensemble.bin.prepare_mini_synth, such as --train_minutes 5, --nj 4, --stage 2 or --unlabelled.

set -euo pipefail

# shellcheck source=../path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh
python=${python:-python3}

"${python}" -m espnet_ensemble.bin.prepare_mini_synth --output_dir data \
    --corpus_dir "${MINI_SYNTH}" "$@"
echo "$(date '+%Y-%m-%dT%H:%M:%S') (data.sh) data directories are in data"
