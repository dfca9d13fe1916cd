#!/usr/bin/env bash
# Table 1: fine-tuned wav2vec 2.0+HuBERT (large) and a CTC layer, on 10 hours of Libri-Light.
# Options are those of asr.sh, such as
# --stage 10 --frontend_config conf/frontends/finetuned_large_hubert.yaml

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

./asr.sh \
    --ngpu 1 --nj 16 --gpu_inference true --inference_nj 2 \
    --train_set train_10h --valid_set dev \
    --test_sets "dev_clean dev_other test_clean test_other" \
    --max_wav_duration 30 \
    --asr_config conf/train_asr.yaml --asr_args "--max_epoch 8" --cache_feats true \
    --frontend_config conf/frontends/finetuned_large_wav2vec2_hubert.yaml \
    --inference_config conf/decode_asr.yaml \
    "$@"
