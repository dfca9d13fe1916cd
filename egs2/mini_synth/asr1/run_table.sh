#!/usr/bin/env bash
# The paper's Table 2 in miniature: all combinations of the upstreams, with a CTC layer alone
# and with 2 encoder layers below it. It ends with a table and a chart in exp/table. What an
# earlier run has finished is not repeated. Options are those of run.sh; in the environment:
# suffix, of the names of the upstreams' folders, such as _ctc.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=path.sh
. ./path.sh

suffix=${suffix:-}
combinations=(
    "wav2vec2" "hubert" "wavlm"
    "wav2vec2 hubert" "wavlm wav2vec2" "wavlm hubert" "wav2vec2 hubert wavlm"
)
heads=(ctc transformer2_ctc)

./run.sh --stop_stage 5 "$@"
number=0
for head in "${heads[@]}"; do
    for names in "${combinations[@]}"; do
        number=$((number + 1))
        echo "run_table.sh: system ${number} of $((${#heads[@]} * ${#combinations[@]})): ${names}, ${head}"
        upstreams=
        for name in ${names}; do upstreams+=" upstreams/${name}${suffix}"; done
        ./run.sh --stage 10 --stop_stage 13 --asr_config "conf/train_asr_${head}.yaml" \
            --upstreams "${upstreams}" "$@"
    done
done
python3 local/make_table.py --suffix "${suffix}" --output_dir "exp/table${suffix}" exp
