#!/usr/bin/env bash
# Make the upstreams of ../asr1: pre-train a tiny model of each family on speech made on the
# spot, and fine-tune it for ASR. Run it again after an interruption: it goes on.
#
# Usage: ./run.sh [--option value ...]

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

log() { echo "$(date '+%Y-%m-%dT%H:%M:%S') (run.sh) $*"; }
die() {
    log "Error: $*" >&2
    exit 2
}

# begin options
stage=1              # first stage to run: 1 data, 2 pre-training, 3 fine-tuning
stop_stage=3         # last stage to run
expdir=exp/upstreams # folder for the models
python=python3
hours=5              # length of the unlabelled speech, and of the labelled
hours_first=3        # how much of the labelled speech the first fine-tuning is on
local_data_opts=     # options for local/data.sh, such as "--nj 2"
init_from=           # folder of pre-trained models that stage 2 trains on, such as ../asr1/upstreams
pretrain_args=       # options for local/pretrain.py, such as "--bfloat16 --num_steps 20000"
upstreams=           # folder of pre-trained models that stage 3 fine-tunes (default: expdir)
finetune_args=       # options for local/finetune.py, such as "--device cuda"
# end options

usage() {
    sed -n '2,/^$/s/^# //p' "${BASH_SOURCE[0]}"
    echo "Options (and their defaults):"
    sed -n '/^# begin options/,/^# end options/{/options$/d;s/^\([a-z_]*\)=/  --\1 /;p}' "${BASH_SOURCE[0]}"
}

known=$(sed -n '/^# begin options/,/^# end options/s/^\([a-z_]*\)=.*/\1/p' "${BASH_SOURCE[0]}")
while [ $# -gt 0 ]; do
    case $1 in -h | --help) usage && exit 0 ;; esac
    grep -qx -e "${1#--}" <<< "${known}" || die "unknown option '$1'; see --help"
    [ $# -ge 2 ] || die "$1: expected a value"
    printf -v "${1#--}" '%s' "$2"
    shift 2
done

# shellcheck source=path.sh
. ./path.sh
export python
read -ra data_opts <<< "${local_data_opts}"
read -ra pretrain_opts <<< "${pretrain_args}"
read -ra finetune_opts <<< "${finetune_args}"

wanted() { [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ]; }

# pretrain <name> <family> [options]
pretrain() {
    local name=$1 family=$2
    shift 2
    [ -z "${init_from}" ] || set -- --init_from "${init_from}/${family}" "$@"
    log "pre-training: ${name}"
    "${python}" local/pretrain.py --family "${family}" --output_dir "${expdir}/${name}" \
        "$@" "${pretrain_opts[@]}"
}

# finetune <folder of the upstream> <name> [options]
finetune() {
    local upstream=$1 name=$2
    shift 2
    log "fine-tuning: ${name}"
    "${python}" local/finetune.py --upstream "${upstream}" --output_dir "${expdir}/${name}" \
        --valid_dir data/valid "$@" "${finetune_opts[@]}"
}

if wanted 1; then
    log "stage 1: data"
    local/data.sh "${data_opts[@]}"
    local/data.sh --unlabelled --hours "${hours}" "${data_opts[@]}"
    local/data.sh --finetune --hours "${hours_first}" --output_dir data/first "${data_opts[@]}"
    local/data.sh --finetune --hours "${hours}" "${data_opts[@]}"
fi

if wanted 2; then
    log "stage 2: pre-training"
    # HuBERT goes twice, first on units from MFCCs, unless there is one already: its features
    # make the units of the others.
    first=${init_from:+${init_from}/hubert}
    if [ -z "${first}" ]; then
        first=${expdir}/hubert_first
        pretrain hubert_first hubert --num_steps 4000
    fi
    pretrain hubert hubert --num_steps 6000 --units_from "${first}"
    pretrain wavlm wavlm --num_steps 6000 --units_from "${first}"
    pretrain wav2vec2 wav2vec2 --num_steps 8000
fi

if wanted 3; then
    log "stage 3: fine-tuning"
    # First with the convolutions as they are and with masking, then all of the model at
    # several speeds, which are voices of their own.
    for family in hubert wavlm wav2vec2; do
        finetune "${upstreams:-${expdir}}/${family}" "${family}_ctc_first" \
            --data_dir data/first/finetune --num_steps 4000
    done
    for family in hubert wavlm wav2vec2; do
        finetune "${expdir}/${family}_ctc_first" "${family}_ctc" --data_dir data/finetune \
            --no-freeze_feature_encoder --mask_time_prob 0 --dropout 0 \
            --speed_factors 0.85 0.9 0.95 1 1.05 1.1 1.15 --num_steps 8000 --lr 5e-4
    done
fi
log "models are in ${expdir}"
