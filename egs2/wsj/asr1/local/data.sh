#!/usr/bin/env bash
# Stage 1: make the data directories from the discs that db.sh names. Options are those of
# espnet_ensemble.bin.prepare_wsj, such as --nj 4.

set -euo pipefail

# shellcheck source=../path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh
python=${python:-python3}

"${python}" -m espnet_ensemble.bin.prepare_wsj --output_dir data \
    --wsj0 "${WSJ0}" --wsj1 "${WSJ1}" "$@"
echo "$(date '+%Y-%m-%dT%H:%M:%S') (data.sh) data directories are in data"
