#!/usr/bin/env bash
# Pre-train the recipe's three upstreams on unlabelled speech of the training voices.
# HuBERT goes first and twice: on units from MFCCs, and then, as WavLM does, on units from
# what the first one learned. Run it again after an interruption: it goes on.
#
# Options are those of local/pretrain.py, for all: --device cuda, --num_steps 20000. Those in
# upstreams/ were made with --bfloat16, in two hours on two cores with AMX.
# In the environment: output_dir (exp/upstreams), hours (5), python (python3).

set -euo pipefail

python=${python:-python3}
output_dir=${output_dir:-exp/upstreams}
hours=${hours:-5}

pretrain() {
    local name=$1 family=$2
    shift 2
    "${python}" local/pretrain.py --family "${family}" --output_dir "${output_dir}/${name}" "$@"
}

local/data.sh --unlabelled --hours "${hours}"
first="${output_dir}/hubert_first"
pretrain hubert_first hubert --num_steps 4000 "$@"
pretrain hubert hubert --num_steps 6000 --units_from "${first}" "$@"
pretrain wavlm wavlm --num_steps 6000 --units_from "${first}" "$@"
pretrain wav2vec2 wav2vec2 --num_steps 8000 "$@"
