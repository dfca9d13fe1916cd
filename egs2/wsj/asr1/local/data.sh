#!/usr/bin/env bash
# Stage 1: make the data directories from the discs that db.sh names. Options are those of
# local/prepare_wsj.py, such as --nj 4.

set -euo pipefail

# shellcheck source=../db.sh
. ./db.sh
python=${python:-python3}

"${python}" -m espnet_ensemble.recipes.corpora.wsj.prepare --wsj0 "${WSJ0}" --wsj1 "${WSJ1}" --output_dir data "$@"
echo "$(date '+%Y-%m-%dT%H:%M:%S') (data.sh) data directories are in data"
