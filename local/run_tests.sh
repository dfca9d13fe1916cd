#!/usr/bin/env bash
# Run the tests, in an environment made for it if none is active. Options are pytest's.

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
    .ci/run local/*.sh egs2/*/*/*.sh egs2/*/*/utils/*.pl egs2/*/*/local/*.sh
python -m pytest "$@"
