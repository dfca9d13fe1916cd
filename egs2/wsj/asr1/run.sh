#!/usr/bin/env bash
# Train WavLM+HuBERT (base) with 8 transformer layers and CTC on train_si284, and decode the
# development and evaluation tests: a cell of the paper's Table 3. Options are those of
# asr.sh, such as --stage 10 --frontend_config conf/frontends/large_wavlm.yaml.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

./asr.sh \
    --ngpu 1 --nj 16 --gpu_inference true --inference_nj 4 \
    --train_set train_si284 --valid_set test_dev93 \
    --test_sets "test_dev93 test_eval92 test_eval93" \
    --nlsyms_txt data/nlsyms.txt \
    --asr_config conf/train_asr.yaml --cache_feats true \
    --inference_config conf/decode_asr.yaml \
    "$@"
