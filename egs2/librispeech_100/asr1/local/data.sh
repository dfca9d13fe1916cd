#!/usr/bin/env bash
# Stage 1: get LibriSpeech, if db.sh says so, check it and make data directories. Options
# are those of espnet_ensemble.bin.prepare_librispeech, such as --stage 2, --librispeech_url,
# --partial or --nj 4.

set -euo pipefail

# shellcheck source=../path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh
python=${python:-python3}

"${python}" -m espnet_ensemble.bin.prepare_librispeech --output_dir data \
    --librispeech "${LIBRISPEECH:-}" "$@" \
    train_clean_100 dev_clean dev_other test_clean test_other
echo "$(date '+%Y-%m-%dT%H:%M:%S') (data.sh) data directories are in data"
