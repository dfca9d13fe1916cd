#!/usr/bin/env bash
# Train a CTC layer on WavLM+HuBERT and on each of them alone, with speech made on the spot, decode
# voices and sentences it has not heard, and compare: some minutes on two cores.
# Options are those of asr.sh, such as --stage 10 --upstreams "upstreams/wav2vec2"; with any, there is
# no comparison but with --compare_members true.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

[ $# -gt 0 ] || set -- --compare_members true

./asr.sh \
    --ngpu 0 --nj 2 --inference_nj 2 \
    --train_set train --valid_set valid --test_sets test \
    --local_data_opts "--nj 2" \
    --asr_config conf/train_asr.yaml --cache_feats true \
    --inference_config conf/decode_asr.yaml --inference_asr_model latest.pth \
    "$@"
