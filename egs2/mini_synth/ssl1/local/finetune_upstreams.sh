#!/usr/bin/env bash
# Fine-tune the recipe's three upstreams for ASR with CTC, for the "ensemble model": on
# speech of the training voices that is not in the training set, so that their features of
# it are as good as of any other speech. First with the convolutions as they are and with
# masking, then all of the model at several speeds, which are voices of their own. Run it
# again after an interruption: it goes on.
#
# Options are those of local/finetune.py, for all: --device cuda, --bfloat16.
# In the environment: upstreams (upstreams), output_dir (exp/upstreams), python (python3).

set -euo pipefail

python=${python:-python3}
upstreams=${upstreams:-upstreams}
output_dir=${output_dir:-exp/upstreams}

finetune() {
    "${python}" local/finetune.py --data_dir data/finetune --valid_dir data/dev "$@"
}

local/data.sh
local/data.sh --finetune --hours 3
for family in hubert wavlm wav2vec2; do
    finetune --upstream "${upstreams}/${family}" \
        --output_dir "${output_dir}/${family}_ctc_first" --num_steps 4000 "$@"
done
local/data.sh --finetune --hours 5
for family in hubert wavlm wav2vec2; do
    finetune --upstream "${output_dir}/${family}_ctc_first" \
        --output_dir "${output_dir}/${family}_ctc" --no-freeze_feature_encoder \
        --mask_time_prob 0 --dropout 0 --speed_factors 0.85 0.9 0.95 1 1.05 1.1 1.15 \
        --num_steps 8000 --lr 5e-4 "$@"
done
