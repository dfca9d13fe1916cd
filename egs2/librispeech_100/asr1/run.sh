#!/usr/bin/env bash
# Table 2: WavLM+HuBERT (base), 2 transformer layers and CTC, on 100 hours of LibriSpeech.
# Options are those of asr.sh, such as --stage 10 --asr_config conf/train_asr_ctc.yaml
# --frontend_config conf/frontends/large_wavlm.yaml

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

./asr.sh \
    --ngpu 1 --nj 16 --gpu_inference true --inference_nj 4 \
    --train_set train_clean_100 --valid_set dev \
    --test_sets "dev_clean dev_other test_clean test_other" \
    --max_wav_duration 30 \
    --asr_config conf/train_asr.yaml --cache_feats true \
    --inference_config conf/decode_asr.yaml \
    "$@"
