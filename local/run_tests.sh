#!/usr/bin/env bash
# Run the tests, in an environment made for it if none is active. Options are pytest's:
# -m "not slow" for those to run in between, -n 0 for all in one process.

set -euo pipefail
cd "$(dirname "$0")/.."

MAIN_ROOT=${PWD}
# shellcheck source=activate.sh
. local/activate.sh
command -v shellcheck pytest > /dev/null || {
    echo "The tests need more packages: pip install '.[all]'" >&2
    exit 1
}
shellcheck --external-sources --source-path=SCRIPTDIR \
    .ci/run local/*.sh egs2/*/*/*.sh egs3/*/*/*.sh egs2/*/*/utils/*.pl egs2/*/*/local/*.sh \
    espnet_ensemble/recipes/starter/template/{db,run,local/data}.sh
# One test on each core, each keeping to its own; more than 4 take more memory than they
# save time.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
python -m pytest --numprocesses logical --maxprocesses 4 --dist loadgroup \
    --durations 30 --durations-min 5 "$@"
