#!/usr/bin/env bash
# Train WavLM+HuBERT (base) with 2 transformer layers and CTC on data/train, and decode
# data/test. Options are those of asr.sh, such as --stage 10 --upstreams "wavlm_base".

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# One GPU where there is one, else the CPU. For several, see batch_bins in the configuration.
if nvidia-smi -L > /dev/null 2>&1; then
    device=(--ngpu 1 --gpu_inference true --inference_nj 2)
else
    device=(--ngpu 0 --inference_nj "$(nproc)")
fi

./asr.sh \
    "${device[@]}" --nj "$(nproc)" \
    --train_set train --valid_set dev --test_sets test \
    --max_wav_duration 30 \
    --asr_config conf/train_asr.yaml --cache_feats true \
    --inference_config conf/decode_asr.yaml \
    "$@"
