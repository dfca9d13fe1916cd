#!/usr/bin/env bash
# The asr.sh of a recipe that `espnet-ensemble link` has placed in a checkout of ESPnet. It runs
# ESPnet's own asr.sh with what our recipes take for granted, and does what those of their options
# mean that ESPnet's does not have: --upstreams, --frontend_config and --cache_feats.

set -euo pipefail

die() {
    echo "$(date '+%Y-%m-%dT%H:%M:%S') (asr.sh) Error: $*" >&2
    exit 2
}

# called FILE: for the names of folders, which ESPnet's makes of a link's own name, and ours of
# the name of what it leads to.
called() {
    local file
    file=$(dirname "$1")/$(basename "$(readlink -f "$1")")
    if [ -h "$1" ] && [ -e "${file}" ]; then echo "${file}"; else echo "$1"; fi
}

# What ours takes for granted. Options that are given come later, and count.
options=(
    --python espnet-ensemble-python --token_type char --use_lm false
    --feats_normalize utterance_mvn --inference_asr_model valid.cer_ctc.ave.pth
)
python=espnet-ensemble-python expdir=exp dumpdir=dump fs=16k
asr_config="" asr_args="" upstreams="" frontend_config="" cache_feats=false
while [ $# -gt 0 ]; do
    name=${1#--} name=${name//-/_}
    case ${name} in
        h | help) exec ../../TEMPLATE/asr1/asr.sh --help ;;
    esac
    [[ $1 == --* ]] || die "expected --option value, found '$1'"
    [ $# -ge 2 ] || die "$1: expected a value"
    case ${name} in
        asr_config | asr_args | upstreams | frontend_config | cache_feats)
            printf -v "${name}" '%s' "$2" ;;
        inference_config)
            options+=("--${name}" "$(called "$2")") ;;
        python | expdir | dumpdir | fs)
            printf -v "${name}" '%s' "$2"
            options+=("--${name}" "$2") ;;
        bundle_upstreams | cache_opts | ngram_token_type | ref_channel | upload_dry_run | use_espnet_inference)
            die "$1 is of ESPnet-Ensemble's own asr.sh: run the recipe in its checkout" ;;
        *)
            options+=("--${name}" "$2") ;;
    esac
    shift 2
done

asr_config=$(called "${asr_config}")
if [ -n "${upstreams}${frontend_config}" ]; then
    # shellcheck source=/dev/null
    . ./path.sh
    names=$("${python}" -m espnet_ensemble.bin.asr_names --asr_config="${asr_config}" --fs="${fs}" \
        --frontend_config="${frontend_config}" --upstreams="${upstreams}" --expdir="${expdir}")
    asr_config=$(eval "${names}" && echo "${asr_config}")
fi
case ${cache_feats} in
    true) asr_args+=" --frontend_conf feature_cache=${dumpdir}/feats" ;;
    false) ;;
    *) die "--cache_feats: expected true or false, found '${cache_feats}'" ;;
esac

exec ../../TEMPLATE/asr1/asr.sh "${options[@]}" --asr_config "${asr_config}" --asr_args "${asr_args}"
