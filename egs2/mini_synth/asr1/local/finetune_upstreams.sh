#!/usr/bin/env bash
# Fine-tune the recipe's three upstreams for ASR with CTC on the training set, for the
# "ensemble model". Run it again after an interruption: it goes on.
#
# Options are those of local/finetune.py, for all: --device cuda, --num_steps 6000.
# In the environment: upstreams (upstreams), output_dir (exp/upstreams), python (python3).

set -euo pipefail

python=${python:-python3}
upstreams=${upstreams:-upstreams}
output_dir=${output_dir:-exp/upstreams}

for family in hubert wavlm wav2vec2; do
    "${python}" local/finetune.py --upstream "${upstreams}/${family}" \
        --output_dir "${output_dir}/${family}_ctc" --valid_dir data/dev "$@"
done
