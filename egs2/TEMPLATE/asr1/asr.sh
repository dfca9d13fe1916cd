#!/usr/bin/env bash
# From a corpus to a packed model, in stages. Options, stages and folders are those of
# ESPnet's asr.sh, but neither a checkout of ESPnet nor Kaldi is needed.
#
# Usage: ./asr.sh --train_set train --valid_set dev --test_sets "test" [--option value ...]

set -euo pipefail

log() { echo "$(date '+%Y-%m-%dT%H:%M:%S') (asr.sh) $*"; }
die() {
    log "Error: $*" >&2
    exit 2
}

# begin options
# -- General
stage=1                # first stage to run
stop_stage=15          # last stage to run (ESPnet: 10000)
skip_stages=           # stages to leave out, such as "2 4"
skip_data_prep=false   # leave out stages 1 to 5
skip_train=false       # leave out stages 2, 4, 5, 9, 10 and 11
skip_eval=false        # leave out stages 12 and 13
skip_packing=true      # leave out stage 14
skip_upload_hf=true    # leave out stage 15
eval_valid_set=false   # also decode the validation set
ngpu=1                 # GPUs of a node in training; 0: CPU
num_nodes=1            # nodes in training
nj=32                  # parallel jobs
inference_nj=32        # parallel jobs in decoding
gpu_inference=false    # decode on GPUs
dumpdir=dump           # folder for formatted audio and features
expdir=exp             # folder for experiments
python=espnet-ensemble-python # python with the plugin loaded (ESPnet: python3)
# -- Data
local_data_opts=       # options for local/data.sh
train_set=             # training set, a folder in data
valid_set=             # validation set
test_sets=             # evaluation sets, such as "test_clean test_other"
speed_perturb_factors= # such as "0.9 1.0 1.1"
feats_type=raw         # raw is all there is: upstreams take waveforms
audio_format=flac      # wav or flac; with .ark, as files of their own all the same
fs=16k                 # sample rate
ref_channel=           # channel to take of audio with several, from 0 (default: refuse it)
min_wav_duration=0.1   # shortest training utterance, in seconds
max_wav_duration=20    # longest training utterance, in seconds
# -- Tokens
token_type=char        # char, word or bpe (ESPnet: bpe)
nbpe=30                # number of BPE pieces
bpemode=unigram        # unigram or bpe
bpe_train_text=        # text to train BPE on (default: the training set's)
bpe_input_sentence_size=100000000 # sentences that BPE is trained on, at most
bpe_nlsyms=            # symbols that BPE leaves whole: a file, or separated by commas
bpe_char_cover=1.0     # character coverage of BPE
lm_train_text=         # text for characters and n-grams (default: the training set's)
oov="<unk>"            # out-of-vocabulary symbol
blank="<blank>"        # CTC's blank
sos_eos="<sos/eos>"    # start and end of a sentence
nlsyms_txt=none        # file of non-linguistic symbols
cleaner=none           # text cleaner
hyp_cleaner=none       # text cleaner for hypotheses
g2p=none               # grapheme-to-phoneme conversion
lang=noinfo            # language, for folder names
# -- Frontend
upstreams=             # upstreams in place of the configuration's: "wavlm_base hubert_base"
frontend_config=       # YAML with frontend and frontend_conf, in place of those
cache_feats=false      # compute the frozen upstreams' features once, before training
cache_opts=            # options of espnet-ensemble extract, such as "--storage int8"
# -- Language model
use_ngram=false        # train an n-gram language model, and decode with it
ngram_exp=             # its folder (default: <expdir>/ngram)
ngram_num=3            # words in its longest n-grams
ngram_token_type=word  # what it is of: word, or the model's tokens: char or bpe
# -- Training
asr_config=            # training configuration
asr_args=              # options that override it, such as "--max_epoch 10"
asr_tag=               # name of the experiment (default: from configuration and options)
asr_exp=               # folder of the experiment (default: <expdir>/asr_<asr_tag>)
asr_stats_dir=         # folder of the statistics
feats_normalize=utt_mvn # normalise with the training set's statistics: global_mvn (ESPnet: global_mvn)
pretrained_model=      # initial parameters, as espnet2.bin.asr_train --init_param
ignore_init_mismatch=false # take of them what fits
asr_speech_fold_length=800 # fold_length of speech, in units of 100 samples
asr_text_fold_length=150   # fold_length of text
num_splits_asr=1       # parts of the training set, whose tables are in memory one at a time
# -- Decoding, scoring, packing
inference_config=      # decoding configuration
inference_args=        # options that override it
inference_tag=         # name of the decoding (default: from configuration and options)
inference_asr_model=valid.cer_ctc.ave.pth # checkpoint to decode with (ESPnet: valid.acc.ave.pth)
download_model=        # decode with a published model (user/model of the Hugging Face hub, or an archive), and train none
inference_ngram=       # n-gram to decode with (default: <ngram_num>gram.arpa, of stage 9; ESPnet: 3gram.bin)
batch_size=            # utterances decoded at a time (default: as many as fit; ESPnet: 1)
use_espnet_inference=false # decode a CTC-only model, too, with espnet2.bin.asr_inference
score_opts=            # options for sclite, which then scores
use_sclite=false       # score by sclite, whose numbers are computed here otherwise
local_score_opts=      # options for local/score.sh
bundle_upstreams=false # carry published upstreams in the packed model, too
compare_members=false  # after stage 13, also train, decode and score each upstream alone, and compare
hf_repo=               # repository on the Hugging Face hub, for stage 15
upload_dry_run=false   # show what stage 15 would upload, and upload nothing
# end options

# Defaults are those of the recipe that calls: its options are parsed before --help.
usage() {
    local line name
    sed -n '4,/^$/s/^# //p' "${BASH_SOURCE[0]}"
    printf '\nStages:\n'
    sed -n 's/^stage_\([0-9]*\)() { # /  \1\t/p' "${BASH_SOURCE[0]}" | sort -n
    printf '\nOptions (and their defaults):\n'
    sed -n '/^# begin options/,/^# end options/{/options$/d;p}' "${BASH_SOURCE[0]}" |
        while IFS= read -r line; do
            name=${line%%=*}
            case ${line} in
                "# -- "*) printf '\n%s\n' "${line#\# -- }" ;;
                *) printf '  --%-32s # %s\n' "${name} $(shown "${!name}")" "${line#*\# }" ;;
            esac
        done
    printf "\nOf ESPnet's asr.sh, with no other value:\n"
    for line in "${foreign[@]}"; do
        name=${line%%=*} line=${line#*=}
        printf '  --%-32s # %s\n' "${name} ${line%% #*}" "${line#* # }"
    done
    printf "\nOf ESPnet's asr.sh, taken and not used:\n"
    printf '  --%s\n' "${dormant[@]}"
}
shown() { if [[ $1 == *[\ \<]* ]]; then echo "\"$1\""; else echo "$1"; fi; }

# What ESPnet's asr.sh has and this one has not: the value that asks for none of it, and what
# to do in place of others.
take_espnet="take ESPnet's own asr.sh, with --python espnet-ensemble-python"
foreign=(
    "use_lm=false # there is no neural language model; --use_ngram true decodes with an n-gram (ESPnet: true)"
    "use_k2=false # decoding is by CTC, without k2"
    "use_maskctc=false # decoding is by CTC, without masks"
    "use_streaming=false # upstreams hear whole utterances"
    "asr_task=asr # for transducers, ${take_espnet}"
    "num_ref=1 # for several speakers at once, ${take_espnet}"
    "num_inf=1 # for several speakers at once, ${take_espnet}"
    "sot_asr=false # for several speakers at once, ${take_espnet}"
    "use_prompt=false # for prompts, ${take_espnet}"
    "use_lang_prompt=false # for prompts, ${take_espnet}"
    "use_nlp_prompt=false # for prompts, ${take_espnet}"
    "use_lightning=false # for the Lightning trainer, ${take_espnet}"
    "auxiliary_data_tags= # for further tasks, ${take_espnet}"
    "multi_columns_input_wav_scp=false # of several channels, --ref_channel takes one"
    "multi_columns_output_wav_scp=false # of several channels, --ref_channel takes one"
    "post_process_local_data_opts= # local/data.sh runs once: let --local_data_opts do it all"
)
# What means nothing without one of those, or without --token_type hugging_face.
dormant=(
    lm_tag lm_exp lm_stats_dir lm_config lm_args lm_fold_length lm_dev_text lm_test_text
    inference_lm use_word_lm word_vocab_size num_splits_lm k2_config k2_ctc_decoding
    use_nbest_rescoring num_paths nll_batch_size hugging_face_model_name_or_path
)

# expected NAME VALUE: what VALUE should be, but is not; NAME's default says what that is.
expected() {
    if [[ ${!1} =~ ^(true|false)$ ]]; then
        [[ $2 =~ ^(true|false)$ ]] || echo "true or false"
    elif [[ $1 == *_duration ]]; then
        [[ $2 =~ ^([0-9]+[.]?[0-9]*|[.][0-9]+)$ ]] || echo "seconds"
    elif [[ $1 =~ ^(nj|inference_nj|num_nodes|batch_size)$ ]]; then
        [[ $2 =~ ^[1-9][0-9]*$ ]] || echo "a number from 1"
    elif [[ ${!1} =~ ^[0-9]+$ ]]; then
        [[ $2 =~ ^(0|[1-9][0-9]*)$ ]] || echo "a number"
    elif [ "$1" = skip_stages ]; then
        [[ $2 =~ ^[0-9\ ]*$ ]] || echo "numbers of stages, such as \"2 4\""
    fi
}

# Options that were given, and their last values.
declare -A given
parse_options() {
    local name known expected
    known=$(sed -n '/^# begin options/,/^# end options/s/^\([a-z0-9_]*\)=.*/\1/p' "${BASH_SOURCE[0]}")
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help) usage || true; exit 0 ;;
            --*) name=${1#--} name=${name//-/_} ;;
            *) die "expected --option value, found '$1'; see --help" ;;
        esac
        [[ " ${known//$'\n'/ } ${foreign[*]%%=*} ${dormant[*]} " == *" ${name} "* ]] ||
            die "unknown option '$1'; see --help"
        [ $# -ge 2 ] || die "$1: expected a value"
        given[${name}]=$2
        if [[ $'\n'${known}$'\n' == *$'\n'"${name}"$'\n'* ]]; then
            expected=$(expected "${name}" "$2")
            [ -z "${expected}" ] || die "$1: expected ${expected}, found '$2'"
            printf -v "${name}" '%s' "$2"
        fi
        shift 2
    done
}

# For options of ESPnet's recipes: what is not here, and what a default decides that is not
# ESPnet's.
check_foreign() {
    local option name value harmless unused=
    for option in "${foreign[@]}"; do
        name=${option%%=*} value=${given[${name}]:-}
        harmless=${option%% #*} harmless=${harmless#*=}
        [ -z "${value}" ] || [ "${value}" = "${harmless}" ] ||
            die "--${name} ${value}: expected ${harmless:-nothing}: ${option#* # }"
    done
    for name in "${dormant[@]}"; do
        [[ ${name} != *lm* ]] || [ -z "${given[${name}]:-}" ] || unused+=" --${name}"
    done
    [ -z "${unused}" ] || [ -n "${given[use_lm]:-}" ] ||
        log "Note: without effect:${unused}: --use_lm is true by default in ESPnet's asr.sh, and false here"
    for name in nbpe bpemode bpe_train_text bpe_nlsyms bpe_char_cover bpe_input_sentence_size; do
        [ -z "${given[${name}]:-}" ] || [ -n "${given[token_type]:-}" ] ||
            die "--${name} is for --token_type bpe, the default of ESPnet's asr.sh; here it is" \
                "${token_type}: give --token_type bpe, or --token_type ${token_type} if that is meant"
    done
}

check_options() {
    check_foreign
    [ -z "${download_model}" ] || skip_train=true
    ((stage <= stop_stage)) || die "--stage ${stage} comes after --stop_stage ${stop_stage}"
    [[ "${train_set}${valid_set}" != *[[:space:]]* ]] ||
        die "expected one train_set and one valid_set, found '${train_set}' and '${valid_set}'"
    "${skip_train}" || [ -n "${train_set}" ] || die "--train_set is required"
    "${skip_train}" || [ -n "${valid_set}" ] || die "--valid_set is required"
    [ -n "${test_sets}" ] || "${eval_valid_set}" || die "--test_sets is required"
    [ -z "${train_set}" ] || [ "${train_set}" != "${valid_set}" ] ||
        die "train_set and valid_set must differ, found ${train_set} for both"
    [[ " ${test_sets} " != *" ${train_set:-/} "* ]] ||
        die "--test_sets ${test_sets}: ${train_set} is the training set"
    [ "${feats_type}" = raw ] ||
        die "--feats_type ${feats_type}: expected raw; --cache_feats true computes features once"
    [[ ${audio_format} =~ ^(wav|flac)([.]ark)?$ ]] ||
        die "--audio_format ${audio_format}: expected wav or flac"
    audio_format=${audio_format%.ark} # the same samples, whatever file they are in
    [[ ${token_type} =~ ^(char|word|bpe)$ ]] ||
        die "--token_type ${token_type}: expected char, word or bpe"
    [[ ${ngram_token_type} =~ ^(word|${token_type})$ ]] ||
        die "--ngram_token_type ${ngram_token_type}: expected word or ${token_type}"
    # All but the first leave it to the configuration.
    [[ ${feats_normalize} =~ ^(global_mvn|utt_mvn|utterance_mvn|uttmvn|none|null)?$ ]] ||
        die "--feats_normalize ${feats_normalize}: expected utt_mvn or global_mvn"
    [ -n "${asr_config}${download_model}" ] || die "--asr_config is required: conf/tuning has some"
    "${python}" -c 'import sys; sys.exit("espnet_ensemble" not in sys.modules)' ||
        die "--python ${python}: expected a python that loads the plugin, such as espnet-ensemble-python"
}

set_stages() {
    local number
    ! "${skip_data_prep}" || skip_stages+=" 1 2 3 4 5"
    ! "${skip_train}" || skip_stages+=" 2 4 5 9 10 11"
    "${use_ngram}" || skip_stages+=" 9"
    ! "${skip_eval}" || skip_stages+=" 12 13"
    ! "${skip_packing}" || skip_stages+=" 14"
    ! "${skip_upload_hf}" || skip_stages+=" 15"
    for number in 1 2 3 4 5 9 10 11 12 13 14 15; do
        if ((stage <= number && number <= stop_stage)) && [[ " ${skip_stages} " != *" ${number} "* ]]; then
            stages+=" ${number}"
        fi
    done
}

# An experiment, of a model that somebody has published; what options say of another is not of
# it.
declare model_bpemodel="" model_unused=""
use_download() {
    local names
    log "Use ${download_model} for decoding and evaluation"
    names=$("${python}" -m espnet_ensemble.bin.download_model --expdir "${expdir}" "${download_model}")
    eval "${names}"
    frontend_config="" upstreams="" asr_args=""
    [ -z "${model_unused}" ] || log "Note: without effect: ${model_unused} of ${download_model}"
}

# Where everything is, what is decoded, what options are words; and whether the stages can
# run: espnet_ensemble/bin/asr_names.py knows.
declare stages="" data_feats feats_dir token_dir token_list bpemodel ngram_exp ngram_file
declare packed_model eval_sets
declare -a local_data_opts_words asr_args_words pretrained_model_words cache_opts_words \
    inference_args_words local_score_opts_words lm_train_text_words bpe_train_text_words
set_names() {
    local names
    names=$("${python}" -m espnet_ensemble.bin.asr_names \
        --asr_config="${asr_config}" --frontend_config="${frontend_config}" --upstreams="${upstreams}" \
        --dumpdir="${dumpdir}" --expdir="${expdir}" --feats_type="${feats_type}" --fs="${fs}" \
        --speed_perturb_factors="${speed_perturb_factors}" --lang="${lang}" \
        --token_type="${token_type}" --nbpe="${nbpe}" --bpemode="${bpemode}" \
        --cleaner="${cleaner}" --g2p="${g2p}" \
        --asr_args="${asr_args}" --asr_tag="${asr_tag}" --asr_exp="${asr_exp}" \
        --asr_stats_dir="${asr_stats_dir}" --feats_normalize="${feats_normalize}" \
        --pretrained_model="${pretrained_model}" --download_model="${download_model}" --use_ngram="${use_ngram}" \
        --ngram_exp="${ngram_exp}" --ngram_num="${ngram_num}" \
        --ngram_token_type="${ngram_token_type}" --inference_ngram="${inference_ngram}" \
        --inference_config="${inference_config}" --inference_args="${inference_args}" \
        --inference_tag="${inference_tag}" --inference_asr_model="${inference_asr_model}" \
        --local_data_opts="${local_data_opts}" --cache_opts="${cache_opts}" \
        --local_score_opts="${local_score_opts}" \
        --lm_train_text="${lm_train_text}" --bpe_train_text="${bpe_train_text}" \
        --train_set="${train_set}" --valid_set="${valid_set}" --test_sets="${test_sets}" \
        --eval_valid_set="${eval_valid_set}" --stages="${stages}" --cache_feats="${cache_feats}" \
        --ngpu="${ngpu}" --num_nodes="${num_nodes}" --gpu_inference="${gpu_inference}" \
        --cuda_cmd="${cuda_cmd}")
    eval "${names}"
    [ -z "${download_model}" ] || bpemodel=${model_bpemodel}

    token_opts=(
        --use_preprocessor true --bpemodel "${bpemodel}" --token_type "${token_type}"
        --token_list "${token_list}" --non_linguistic_symbols "${nlsyms_txt}"
        --cleaner "${cleaner}" --g2p "${g2p}"
    )
    asr_opts=(--config "${asr_config}" --frontend_conf "fs=${fs}" "${asr_args_words[@]}")
}

# need STAGE FILE...: stop where a file is missing that STAGE makes.
need() {
    local maker=$1 file
    shift
    for file; do
        [ -e "${file}" ] || die "${file} is missing: stage ${maker} makes it"
    done
}

# state SETTINGS FILE...: what a step depends on. It is kept beside the step's result: while
# it stays the same, the step is not repeated.
state() {
    echo "$1"
    shift
    cksum "$@"
}
# audio_of SET...: what changes when stage 3 makes their audio anew.
audio_of() {
    local dset
    for dset; do
        cat "${data_feats}"/{org/,}"${dset}"/data/record 2> /dev/null || true
    done | cksum
}
is_done() { [ -f "$1" ] && [ "$(< "$1")" = "$2" ]; }
mark_done() { echo "$2" > "$1.tmp" && mv "$1.tmp" "$1"; }

# split_keys FILE N PREFIX: deal its lines to PREFIX.1.scp, ..., PREFIX.N.scp.
split_keys() { awk -v n="$2" -v prefix="$3" '{ print > (prefix "." (NR % n + 1) ".scp") }' "$1"; }

# num_jobs N FILE: N, or the number of lines of FILE where that is less.
num_jobs() {
    local lines
    lines=$(wc -l < "$2")
    echo "$((lines < $1 ? lines : $1))"
}

# follow "FILTER ..." LOG...: show what FILTER makes of logs while they grow, until unfollow.
follow() {
    local filter
    read -ra filter <<< "$1"
    shift
    tail --pid=$$ --sleep-interval 0.2 -qn 0 -F "$@" > >("${filter[@]}") 2> /dev/null &
    follower=$!
    # Whoever reads this script's output through a pipe waits until nobody holds it; --pid
    # alone would wait until they have asked for the exit status.
    trap 'kill "${follower}" 2> /dev/null || true' EXIT
}
unfollow() {
    sleep 1 # tail looks five times a second
    trap - EXIT
    kill "${follower}"
    wait "${follower}" 2> /dev/null || true
}

stage_1() { # corpus to data directories: local/data.sh
    log "Stage 1: Data preparation: local/data.sh -> data"
    local/data.sh "${local_data_opts_words[@]}"
}

stage_2() { # speed perturbation
    if [ -z "${speed_perturb_factors}" ]; then
        log "Stage 2: no speed perturbation"
        return
    fi
    log "Stage 2: Speed perturbation: data/${train_set%_sp} -> data/${train_set}"
    need 1 "data/${train_set%_sp}/wav.scp"
    "${python}" -m espnet_ensemble.bin.perturb_data_dir_speed --nj "${nj}" --fs "${fs}" \
        --audio_format "${audio_format}" ${ref_channel:+--ref_channel "${ref_channel}"} --speed_perturb_factors "${speed_perturb_factors}" \
        "data/${train_set%_sp}" "data/${train_set}"
}

stage_3() { # audio files as training reads them
    local dset sets="${valid_set} ${test_sets}" dest channel
    if ! "${skip_train}"; then
        sets="${train_set} ${sets}"
    elif ! "${eval_valid_set}"; then
        sets=${test_sets}
    fi
    for dset in ${sets}; do
        dest=${data_feats}/${dset}
        [[ " ${test_sets} " == *" ${dset} "* ]] || dest=${data_feats}/org/${dset}
        log "Stage 3: Format audio: data/${dset} -> ${dest}"
        need "$([[ ${dset} == *_sp ]] && echo 2 || echo 1)" "data/${dset}/wav.scp"
        channel=${ref_channel}
        [ "${dset}" != "${train_set}" ] || [ -z "${speed_perturb_factors}" ] || channel= # stage 2 took it
        "${python}" -m espnet_ensemble.bin.format_wav_scp --nj "${nj}" --fs "${fs}" \
            --audio_format "${audio_format}" ${channel:+--ref_channel "${channel}"} \
            "data/${dset}" "${dest}"
    done
}

stage_4() { # leave out long and short utterances
    local dset
    for dset in "${train_set}" "${valid_set}"; do
        log "Stage 4: Remove long and short utterances: ${data_feats}/org/${dset} -> ${data_feats}/${dset}"
        need 3 "${data_feats}/org/${dset}/wav.scp"
        "${python}" -m espnet_ensemble.bin.filter_lengths --fs "${fs}" \
            --min_wav_duration "${min_wav_duration}" --max_wav_duration "${max_wav_duration}" \
            "${data_feats}/org/${dset}" "${data_feats}/${dset}"
    done
    local texts=("${lm_train_text_words[@]}")
    [ "${#texts[@]}" != 0 ] || texts=("${data_feats}/org/${train_set}/text")
    awk 'NF > 1' "${texts[@]}" > "${data_feats}/lm_${train_set}.txt"
}

stage_5() { # token list
    local texts=("${data_feats}/lm_${train_set}.txt") settings
    if [ "${token_type}" = bpe ]; then
        texts=("${bpe_train_text_words[@]}")
        [ "${#texts[@]}" != 0 ] || texts=("${data_feats}/org/${train_set}/text")
    fi
    log "Stage 5: Token list (${token_type}) from ${texts[*]}"
    need 4 "${texts[@]}"
    settings="${token_opts[*]} ${bpe_nlsyms} ${bpe_char_cover} ${bpe_input_sentence_size}"
    settings=$(state "${settings} ${blank} ${oov} ${sos_eos}" "${texts[@]}")
    if is_done "${token_dir}/.done" "${settings}"; then
        log "${token_list} is up to date"
        return
    fi
    mkdir -p "${token_dir}"
    if [ "${token_type}" = bpe ]; then
        "${python}" -m espnet_ensemble.bin.spm_train "${texts[@]}" --output_dir "${token_dir}" \
            --nbpe "${nbpe}" --bpemode "${bpemode}" --bpe_nlsyms "${bpe_nlsyms}" \
            --bpe_char_cover "${bpe_char_cover}" \
            --bpe_input_sentence_size "${bpe_input_sentence_size}" \
            --blank "${blank}" --oov "${oov}" --sos_eos "${sos_eos}"
    else
        "${python}" -m espnet2.bin.tokenize_text --token_type "${token_type}" --field 2- \
            --input "${texts[0]}" --output "${token_list}.tmp" --write_vocabulary true \
            --non_linguistic_symbols "${nlsyms_txt}" --cleaner "${cleaner}" --g2p "${g2p}" \
            --add_symbol "${blank}:0" --add_symbol "${oov}:1" --add_symbol "${sos_eos}:-1" \
            > "${token_dir}/tokenize_text.log" 2>&1 || die "see ${token_dir}/tokenize_text.log"
        mv "${token_list}.tmp" "${token_list}"
    fi
    mark_done "${token_dir}/.done" "${settings}"
}

stage_9() { # n-gram language model
    local text=${data_feats}/lm_${train_set}.txt arpa=${ngram_exp}/${ngram_num}gram.arpa settings
    local opts=(
        --ngram_num "${ngram_num}" --token_type "${ngram_token_type}" --bpemodel "${bpemodel}"
        --nlsyms_txt "${nlsyms_txt}" --cleaner "${cleaner}"
    )
    log "Stage 9: ${ngram_num}-gram language model (${ngram_token_type}) of ${text}: ${arpa}"
    need 4 "${text}"
    settings=$(state "${opts[*]}" "${text}")
    if is_done "${ngram_exp}/.done" "${settings}"; then
        log "${arpa} is up to date"
        return
    fi
    mkdir -p "${ngram_exp}"
    "${python}" -m espnet_ensemble.bin.ngram_train "${opts[@]}" --output "${arpa}" "${text}"
    mark_done "${ngram_exp}/.done" "${settings}"
}

stage_10() { # statistics; features of the frozen upstreams
    local train=${data_feats}/${train_set} valid=${data_feats}/${valid_set}
    log "Stage 10: Statistics of ${train} and ${valid} -> ${asr_stats_dir}"
    need 4 "${train}/wav.scp" "${valid}/wav.scp"
    need 5 "${token_list}"
    local settings inputs=("${token_list}" "${train}"/{wav.scp,text} "${valid}"/{wav.scp,text})
    settings="${token_opts[*]} $(audio_of "${train_set}" "${valid_set}")"
    if [ "${feats_normalize}" = global_mvn ]; then
        # Only then are they of features; lengths are the same for all upstreams.
        settings+=" ${asr_opts[*]}"
        inputs+=("${asr_config}")
    fi
    settings=$(state "${settings}" "${inputs[@]}")
    if is_done "${asr_stats_dir}/.done" "${settings}"; then
        log "${asr_stats_dir} is up to date"
    else
        collect_stats "${train}" "${valid}"
        mark_done "${asr_stats_dir}/.done" "${settings}"
    fi
    if "${cache_feats}"; then
        log "Stage 10: Features of the frozen upstreams: ${train} ${valid} -> ${feats_dir}"
        cache stop "${train}" "${valid}"
    fi
}

collect_stats() {
    local train=$1 valid=$2 logdir=${asr_stats_dir}/logdir jobs dset sets status=3
    rm -rf "${asr_stats_dir}"/{logdir,train,valid,.done}
    mkdir -p "${logdir}"
    jobs=$(num_jobs "$(num_jobs "${nj}" "${train}/wav.scp")" "${valid}/wav.scp")
    sets=(
        --train_data_path_and_name_and_type "${train}/wav.scp,speech,sound"
        --train_data_path_and_name_and_type "${train}/text,text,text"
        --valid_data_path_and_name_and_type "${valid}/wav.scp,speech,sound"
        --valid_data_path_and_name_and_type "${valid}/text,text,text"
    )
    # Statistics are of features, and those are not known yet.
    if [ "${feats_normalize}" != global_mvn ]; then
        status=0
        "${python}" -m espnet_ensemble.bin.known_shapes --jobs "${jobs}" "${token_opts[@]}" \
            "${sets[@]}" --output_dir "${asr_stats_dir}" "${asr_opts[@]}" \
            > "${logdir}/known_shapes.log" 2>&1 || status=$?
        [[ ${status} = [03] ]] || die "see ${logdir}/known_shapes.log"
    fi
    if [ "${status}" = 3 ]; then
        [ "${feats_normalize}" = global_mvn ] ||
            log "Note: audio is decoded for its lengths: $(tail -n 1 "${logdir}/known_shapes.log")"
        collect_stats_of_audio "$@"
    fi
    for dset in train valid; do
        awk -v n="$(wc -l < "${token_list}")" '{ print $0 "," n }' \
            "${asr_stats_dir}/${dset}/text_shape" > "${asr_stats_dir}/${dset}/text_shape.${token_type}"
    done
}

# Of collect_stats: ESPnet's own, in jobs.
collect_stats_of_audio() {
    local train=$1 valid=$2 job parts=() feats=()
    split_keys "${train}/wav.scp" "${jobs}" "${logdir}/train"
    split_keys "${valid}/wav.scp" "${jobs}" "${logdir}/valid"
    # Recipes' configurations leave it out, as it takes the upstreams' time.
    [ "${feats_normalize}" != global_mvn ] || feats=(--model_conf extract_feats_in_collect_stats=true)
    ${train_cmd} JOB=1:"${jobs}" "${logdir}/stats.JOB.log" \
        "${python}" -m espnet2.bin.asr_train --collect_stats true "${token_opts[@]}" "${sets[@]}" \
        --train_shape_file "${logdir}/train.JOB.scp" --valid_shape_file "${logdir}/valid.JOB.scp" \
        --output_dir "${logdir}/stats.JOB" "${asr_opts[@]}" "${feats[@]}"
    for ((job = 1; job <= jobs; job++)); do
        parts+=(--input_dir "${logdir}/stats.${job}")
    done
    [ "${feats_normalize}" = global_mvn ] || parts+=(--skip_sum_stats)
    "${python}" -m espnet2.bin.aggregate_stats_dirs "${parts[@]}" --output_dir "${asr_stats_dir}" \
        > "${logdir}/aggregate.log" 2>&1 || die "see ${logdir}/aggregate.log"
}

# num_cores: those of this machine that may be used. nproc by itself says OMP_NUM_THREADS.
num_cores() { env -u OMP_NUM_THREADS nproc; }

# cache ON_ERROR DATA...: extract the features of the frozen upstreams where there are none
# yet, once in a run, and note in cached[DATA] where they are. On a cluster, jobs do it.
declare -A cached
cache() {
    local on_error=$1 data dir sets paths cores cmd=${train_cmd} workers=(--ngpu 0)
    shift
    cores=$(num_cores)
    [ "${ngpu}" = 0 ] || cmd=${cuda_cmd} workers=()
    case " ${cache_opts_words[*]} " in
        *" --dask"[\ =]"slurm "*) cmd= ;;
        *" --dask"*) cmd=run.pl ;;
    esac
    if [[ ${cmd} == run.pl* ]]; then
        workers+=(--nj "$((nj < cores ? nj : cores))")
    else
        workers=(--nj "${nj}" --ngpu "$((ngpu > 0))" ${cmd:+--cmd "${cmd}"})
    fi
    # A set before and after stage 4 has one name.
    for dir in "${feats_dir}" "${feats_dir}_org"; do
        sets=()
        for data; do
            [ -n "${cached[${data}]:-}" ] || [ "$(cache_of "${data}")" != "${dir}" ] || sets+=("${data}")
        done
        [ "${#sets[@]}" != 0 ] || continue
        paths=$("${python}" -m espnet_ensemble.bin.extract \
            "${workers[@]}" --data_dir "${sets[@]}" \
            --frontend_conf "${asr_config}" --cache_dir "${dir}" --on_error "${on_error}" \
            "${cache_opts_words[@]}" | tail -n "${#sets[@]}")
        for data in "${sets[@]}"; do
            IFS= read -r "cached[${data}]"
        done <<< "${paths}"
    done
}
cache_of() { if [[ $1 == */org/* ]]; then echo "${feats_dir}_org"; else echo "${feats_dir}"; fi; }

stage_11() { # training
    local train=${data_feats}/${train_set} valid=${data_feats}/${valid_set} settings audio
    local stats=${asr_stats_dir} normalize=()
    log "Stage 11: Training: ${asr_exp}"
    need 10 "${stats}/train/speech_shape" "${stats}/valid/text_shape.${token_type}"
    need 4 "${train}"/{wav.scp,text} "${valid}"/{wav.scp,text}
    [ "${feats_normalize}" != global_mvn ] ||
        normalize=(--normalize global_mvn --normalize_conf "stats_file=${stats}/train/feats_stats.npz")
    audio=$(audio_of "${train_set}" "${valid_set}")
    settings=$(state "${token_opts[*]} ${asr_opts[*]} ${normalize[*]} ${pretrained_model} ${cache_opts} ${audio}" "${asr_config}" \
        "${token_list}" "${stats}"/{train,valid}/{speech_shape,text_shape} "${train}/text" "${valid}/text")
    ((num_splits_asr == 1)) || settings+=" ${num_splits_asr} parts"
    if is_done "${asr_exp}/.done" "${settings}"; then
        log "${asr_exp} is trained already"
        return
    fi
    local train_speech=${train}/wav.scp,speech,sound valid_speech=${valid}/wav.scp,speech,sound
    if "${cache_feats}"; then
        cache stop "${train}" "${valid}"
        train_speech=${cached[${train}]},speech,feature_cache
        valid_speech=${cached[${valid}]},speech,feature_cache
    fi
    local train_text=${train}/text train_shapes=("${stats}/train/speech_shape" "${stats}/train/text_shape.${token_type}")
    local parts=()
    if ((num_splits_asr > 1)); then
        split_training
        parts=(--multiple_iterator true)
    fi
    if [ -e "${asr_exp}/checkpoint.pth" ] && [ -e "${asr_exp}/.audio" ] && ! is_done "${asr_exp}/.audio" "${audio}"; then
        die "${asr_exp} was trained on other audio of ${train_set} and ${valid_set} than there is now:" \
            "give another --asr_tag, or remove it to train anew"
    fi
    mkdir -p "${asr_exp}"
    mark_done "${asr_exp}/.audio" "${audio}"
    # One process has the machine to itself.
    local threads=${OMP_NUM_THREADS}
    [ "${ngpu}" != 0 ] || [ "${num_nodes}" != 1 ] || threads=$(num_cores)
    follow epochs "${asr_exp}/train.log"
    OMP_NUM_THREADS=${threads} "${python}" -m espnet2.bin.launch \
        --cmd "${cuda_cmd} --name $(printf %q "${asr_exp}/train.log")" --log "${asr_exp}/train.log" \
        --ngpu "${ngpu}" --num_nodes "${num_nodes}" \
        --init_file_prefix "${asr_exp}/.dist_init_" --multiprocessing_distributed true -- \
        "${python}" -m espnet2.bin.asr_train "${token_opts[@]}" \
        --train_data_path_and_name_and_type "${train_speech}" \
        --train_data_path_and_name_and_type "${train_text},text,text" \
        --valid_data_path_and_name_and_type "${valid_speech}" \
        --valid_data_path_and_name_and_type "${valid}/text,text,text" \
        --train_shape_file "${train_shapes[0]}" --train_shape_file "${train_shapes[1]}" "${parts[@]}" \
        --valid_shape_file "${stats}/valid/speech_shape" \
        --valid_shape_file "${stats}/valid/text_shape.${token_type}" \
        --fold_length "$((asr_speech_fold_length * 100))" --fold_length "${asr_text_fold_length}" \
        ${pretrained_model:+--init_param "${pretrained_model_words[@]}"} \
        --ignore_init_mismatch "${ignore_init_mismatch}" --resume true \
        --output_dir "${asr_exp}" "${normalize[@]}" "${asr_opts[@]}"
    unfollow
    need 11 "${asr_exp}/${inference_asr_model}"
    mark_done "${asr_exp}/.done" "${settings}"
}

# Of stage 11: the training set's tables in parts, and what training reads in their place.
split_training() {
    local splits=${stats}/splits${num_splits_asr} members=()
    ! "${cache_feats}" || members=(--members "${cached[${train}]}")
    rm -rf "${splits}"
    log "Stage 11: ${num_splits_asr} parts of ${train}: ${splits}"
    "${python}" -m espnet_ensemble.bin.split_training --num_splits "${num_splits_asr}" --output_dir "${splits}" \
        "${members[@]}" "${train}/wav.scp" "${train_text}" "${train_shapes[@]}"
    if "${cache_feats}"; then
        train_speech=${splits}/feats,speech,feature_cache
    else
        train_speech=${splits}/wav.scp,speech,sound
    fi
    train_text=${splits}/text
    train_shapes=("${splits}/speech_shape" "${splits}/text_shape.${token_type}")
}

# Of train.log, a line for each epoch.
epochs() {
    "${python}" -m espnet_ensemble.bin.show_epochs --train_config "${asr_exp}/config.yaml"
}

stage_12() { # decoding
    local dset cmd=${decode_cmd} gpus=0 own=false opts todo=()
    local decoded=${asr_exp}/${inference_tag}
    declare -A states
    log "Stage 12: Decoding with ${asr_exp}/${inference_asr_model}: ${decoded}"
    need 11 "${asr_exp}/config.yaml" "${asr_exp}/${inference_asr_model}"
    ! "${gpu_inference}" || cmd=${cuda_cmd} gpus=1
    "${use_espnet_inference}" || ! grep -qx "decoder: null" "${asr_exp}/config.yaml" || own=true
    opts=(${inference_config:+--config "${inference_config}"})
    if "${use_ngram}"; then
        need 9 "${ngram_file}"
        opts+=(--ngram_file "${ngram_file}")
    fi
    opts+=("${inference_args_words[@]}")
    for dset in ${eval_sets}; do
        need 3 "${data_feats}/${dset}/wav.scp"
        states[${dset}]=$(decoding_state "${dset}")
        if is_done "${decoded}/${dset}/.done" "${states[${dset}]}"; then
            log "${decoded}/${dset}/text is up to date"
        else
            rm -rf "${decoded}/${dset}"/{logdir,posteriors,.done}
            mkdir -p "${decoded}/${dset}/logdir"
            todo+=("${dset}")
        fi
    done
    if ! "${own}"; then
        for dset in "${todo[@]}"; do decode_by_espnet "${dset}"; done
    elif [ "${#todo[@]}" != 0 ]; then
        decode "${todo[@]}"
    fi
}

decoding_state() {
    local settings files=("${asr_exp}/${inference_asr_model}" "${data_feats}/$1/wav.scp")
    settings="${opts[*]} ${batch_size} ${own} $(audio_of "$1")"
    ! "${own}" || ! "${cache_feats}" || settings+=" cached ${cache_opts}"
    [ -z "${inference_config}" ] || files+=("${inference_config}")
    ! "${use_ngram}" || files+=("${ngram_file}")
    state "${settings}" "${files[@]}"
}

# decode SET...: one process decodes its part of all sets. Here, there is one for each GPU, or
# one that uses all cores.
decode() {
    local dset dir data key logdir=${decoded}/logdir jobs=${inference_nj} threads=${OMP_NUM_THREADS}
    local device="--ngpu ${gpus}" sets=() total=0
    if [[ ${cmd} == run.pl* && ${gpus} = 0 ]]; then
        jobs=1 threads=$(num_cores)
    elif [[ ${cmd} == run.pl* ]]; then
        jobs=$("${python}" -c "import torch; print(max(1, torch.cuda.device_count()))")
        device="--device cuda:\$((JOB - 1))" # jobs are counted from 1, GPUs from 0
    fi
    for dset; do
        jobs=$(num_jobs "${jobs}" "${data_feats}/${dset}/wav.scp")
        total=$((total + $(wc -l < "${data_feats}/${dset}/wav.scp")))
    done
    ! "${cache_feats}" || cache skip "${@/#/${data_feats}/}"
    for dset; do
        dir=${decoded}/${dset} data=${data_feats}/${dset} key=${dir}/logdir/keys
        sort -k 2,2nr "${data}/utt2num_samples" > "${key}.scp"
        split_keys "${key}.scp" "${jobs}" "${key}"
        sets+=(--key_file "${key}.JOB.scp" --output_dir "${dir}/logdir/output.JOB")
        if "${cache_feats}"; then
            sets+=(--data_path_and_name_and_type "${cached[${data}]},speech,feature_cache")
        else
            sets+=(--data_path_and_name_and_type "${data}/wav.scp,speech,sound")
        fi
    done
    rm -rf "${logdir}"
    mkdir -p "${logdir}"
    log "Stage 12: $*: ${logdir}/asr_inference.*.log"
    follow_decoding "${total}" "${logdir}" "${jobs}"
    OMP_NUM_THREADS=${threads} ${cmd} --gpu "${gpus}" JOB=1:"${jobs}" \
        "${logdir}/asr_inference.JOB.log" bash -c "exec \"\$@\" ${device}" bash \
        "${python}" -m espnet_ensemble.bin.asr_inference_ctc "${sets[@]}" \
        ${batch_size:+--batch_size "${batch_size}"} --asr_train_config "${asr_exp}/config.yaml" \
        --asr_model_file "${asr_exp}/${inference_asr_model}" "${opts[@]}"
    unfollow
    for dset; do collect_decoded "${dset}"; done
}

decode_by_espnet() {
    local dset=$1 data=${data_feats}/$1 logdir=${decoded}/$1/logdir jobs
    jobs=$(num_jobs "${inference_nj}" "${data}/wav.scp")
    split_keys "${data}/wav.scp" "${jobs}" "${logdir}/keys"
    log "Stage 12: ${dset}: ${logdir}/asr_inference.*.log"
    follow_decoding "$(wc -l < "${data}/wav.scp")" "${logdir}" "${jobs}"
    ${cmd} --gpu "${gpus}" JOB=1:"${jobs}" "${logdir}/asr_inference.JOB.log" \
        "${python}" -m espnet2.bin.asr_inference --batch_size "${batch_size:-1}" --ngpu "${gpus}" \
        --data_path_and_name_and_type "${data}/wav.scp,speech,sound" \
        --key_file "${logdir}/keys.JOB.scp" --asr_train_config "${asr_exp}/config.yaml" \
        --asr_model_file "${asr_exp}/${inference_asr_model}" \
        --output_dir "${logdir}/output.JOB" "${opts[@]}"
    unfollow
    collect_decoded "${dset}"
}

# follow_decoding N LOGDIR JOBS: show a bar of N utterances.
follow_decoding() {
    local job
    # They must be there for tail to read them from their beginning.
    for ((job = 1; job <= $3; job++)); do : > "$2/asr_inference.${job}.log"; done
    follow "hypotheses $1" "$2"/asr_inference.*.log
}

# collect_decoded SET: what jobs have decoded, in one.
collect_decoded() {
    local dir=${decoded}/$1 name output outputs ark
    outputs=("${dir}"/logdir/output.*)
    for name in token token_int score text; do
        sort "${outputs[@]/%//1best_recog/${name}}" > "${dir}/${name}.tmp"
        mv "${dir}/${name}.tmp" "${dir}/${name}"
    done
    rm -f "${dir}/ctm"
    if [ -e "${outputs[0]}/1best_recog/ctm" ]; then
        sort -s -k 1,1 "${outputs[@]/%//1best_recog/ctm}" > "${dir}/ctm"
    fi
    if [ -e "${outputs[0]}/posteriors" ]; then
        mkdir -p "${dir}/posteriors"
        cp "${outputs[0]}/posteriors/posteriors.yaml" "${dir}/posteriors"
        for output in "${outputs[@]}"; do
            ark=${dir}/posteriors/posteriors.${output##*.}.ark
            mv "${output}/posteriors/posteriors.ark" "${ark}"
            awk -v ark="${ark}" '{ sub(/.*:/, "", $NF); print $1, ark ":" $NF }' \
                "${output}/posteriors/posteriors.scp"
        done | sort > "${dir}/posteriors/posteriors.scp"
    fi
    [ "${#outputs[@]}" != 1 ] || [ ! -e "${outputs[0]}/decoding.yaml" ] ||
        cp "${outputs[0]}/decoding.yaml" "${dir}"
    mark_done "${dir}/.done" "${states[$1]}"
}

# hypotheses N: of asr_inference.*.log, a bar of N utterances.
hypotheses() {
    grep --line-buffered "best hypo" |
        "${python}" -m tqdm --total "$1" --unit utt --mininterval 2 > /dev/null
}

stage_13() { # scoring, RESULTS.md
    local dset dir data
    log "Stage 13: Scoring: ${asr_exp}/${inference_tag}"
    for dset in ${eval_sets}; do
        dir=${asr_exp}/${inference_tag}/${dset} data=${data_feats}/${dset}
        need 12 "${dir}/.done"
        need 3 "${data}/text" "${data}/utt2spk"
        "${python}" -m espnet_ensemble.bin.score_asr --ref "${data}/text" --hyp "${dir}/text" \
            --utt2spk "${data}/utt2spk" --output_dir "${dir}" --bpemodel "${bpemodel}" \
            --nlsyms_txt "${nlsyms_txt}" --cleaner "${cleaner}" --hyp_cleaner "${hyp_cleaner}" \
            --score_opts="${score_opts}" --use_sclite "${use_sclite}"
    done
    write_results
    cat "${asr_exp}/RESULTS.md"
    "${python}" -m espnet_ensemble.bin.show_result "${asr_exp}" --inference_tag "${inference_tag}"
    [ ! -f local/score.sh ] || local/score.sh "${local_score_opts_words[@]}" "${asr_exp}"
}

write_results() {
    "${python}" -m espnet_ensemble.bin.show_asr_result "${asr_exp}" > "${asr_exp}/RESULTS.md.tmp"
    mv "${asr_exp}/RESULTS.md.tmp" "${asr_exp}/RESULTS.md"
}

# The same with each upstream alone, in the experiment's folder. Options of asr.sh follow.
compare_members() {
    local dir=${asr_exp}/members frontends name frontend
    frontends=$("${python}" -m espnet_ensemble.bin.member_frontends "${asr_config}" "${dir}")
    while read -r name frontend; do
        log "${name} alone: training, decoding, scoring: ${dir}/${name}.log"
        "$0" "$@" --frontend_config "${frontend}" --upstreams "" --asr_exp "${dir}/${name}" \
            --inference_tag "${inference_tag}" --compare_members false \
            --stage 10 --stop_stage 13 --skip_stages "" < /dev/null |
            tee "${dir}/${name}.log" | sed -un '/epoch [0-9]*: /p'
    done <<< "${frontends}"
    "${python}" -m espnet_ensemble.bin.compare_members "${asr_exp}" --inference_tag "${inference_tag}"
}

stage_14() { # packing for the model zoo (--skip_packing false)
    log "Stage 14: Pack model: ${packed_model}"
    need 11 "${asr_exp}/config.yaml" "${asr_exp}/${inference_asr_model}"
    need 13 "${asr_exp}/RESULTS.md"
    local opts=(--option "${asr_exp}/RESULTS.md") args=${inference_args}
    if "${use_ngram}"; then
        need 9 "${ngram_file}"
        args+=" --ngram_file $(printf %q "${ngram_file}")"
    fi
    "${python}" -m espnet_ensemble.bin.pack asr --asr_train_config "${asr_exp}/config.yaml" \
        --asr_model_file "${asr_exp}/${inference_asr_model}" "${opts[@]}" \
        --bundle_upstreams "${bundle_upstreams}" --inference_config "${inference_config}" \
        --inference_args="${args}" --model_name "${hf_repo}" --outpath "${packed_model}"
}

stage_15() { # upload to the Hugging Face hub (--skip_upload_hf false)
    local opts=()
    log "Stage 15: Upload model to the Hugging Face hub: ${hf_repo}"
    [ -n "${hf_repo}" ] || die "--hf_repo is required, such as user/model"
    need 14 "${packed_model}"
    ! "${upload_dry_run}" || opts+=(--dry_run)
    "${python}" -m espnet_ensemble.bin.upload "${opts[@]}" "${packed_model}" "${hf_repo}"
    if ! "${upload_dry_run}"; then
        echo "https://huggingface.co/${hf_repo}" > "${asr_exp}/model_link"
        write_results
    fi
}

parse_options "$@"
log "$0 $*"
# shellcheck source=path.sh
. ./path.sh
# shellcheck source=cmd.sh
. ./cmd.sh
check_options
set_stages
[ -z "${download_model}" ] || use_download
# Only stage 2 knows the set without this suffix.
[ -z "${speed_perturb_factors}" ] || train_set+=_sp
set_names

for number in ${stages}; do
    "stage_${number}"
done
if "${compare_members}" && [[ " ${stages} " == *" 13 "* ]]; then
    compare_members "$@"
fi
log "Successfully finished. [elapsed=${SECONDS}s]"
