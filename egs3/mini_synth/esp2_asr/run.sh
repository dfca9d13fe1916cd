#!/usr/bin/env bash
# From the corpus to error rates, by ESPnet3's stages; --stages names some, such as
# ./run.sh --stages infer measure. Where conf/tuning has other systems:
# training_config=conf/tuning/training_large_wavlm_hubert.yaml ./run.sh

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# Jobs run side by side; each keeps to one core.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
if [ $# = 0 ]; then
    set -- --stages create_dataset train_tokenizer collect_stats extract_feats train infer measure
fi
exec "${python:-python3}" run.py --training_config "${training_config:-conf/training.yaml}" \
    --inference_config conf/inference.yaml --metrics_config conf/metrics.yaml \
    --publication_config conf/publication.yaml --demo_config conf/demo.yaml "$@"
