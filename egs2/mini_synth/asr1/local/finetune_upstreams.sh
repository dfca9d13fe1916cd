#!/usr/bin/env bash
# Fine-tune the recipe's three upstreams for ASR with CTC, for the "ensemble model": on
# speech of the training voices that is not in the training set, so that their features of
# it are as good as of any other speech. Run it again after an interruption: it goes on.
#
# Options are those of local/finetune.py, for all: --device cuda, --num_steps 6000.
# In the environment: upstreams (upstreams), output_dir (exp/upstreams), hours (3),
# python (python3).

set -euo pipefail

python=${python:-python3}
upstreams=${upstreams:-upstreams}
output_dir=${output_dir:-exp/upstreams}
hours=${hours:-3}

local/data.sh
local/data.sh --finetune --hours "${hours}"
for family in hubert wavlm wav2vec2; do
    "${python}" local/finetune.py --upstream "${upstreams}/${family}" \
        --output_dir "${output_dir}/${family}_ctc" --data_dir data/finetune --valid_dir data/dev "$@"
done
