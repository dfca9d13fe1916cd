#!/usr/bin/env bash
# Train WavLM+HuBERT with 2 transformer layers and CTC on speech made on the spot, decode
# voices and sentences it has not heard, and score: ESPnet3's stages, of which --stages names
# some, such as ./run.sh --stages infer measure

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
