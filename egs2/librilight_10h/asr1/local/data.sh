#!/usr/bin/env bash
# Stage 1: get the corpora, if db.sh says so, check them and make data directories. Options
# are those of espnet_ensemble.bin.prepare_librilight, such as --stage 2, --librispeech_url,
# --partial or --nj 4.

set -euo pipefail

# shellcheck source=../path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh
python=${python:-python3}

"${python}" -m espnet_ensemble.bin.prepare_librilight --output_dir data \
    --librilight "${LIBRILIGHT:-}" --librispeech "${LIBRISPEECH:-}" "$@"
echo "$(date '+%Y-%m-%dT%H:%M:%S') (data.sh) data directories are in data"
