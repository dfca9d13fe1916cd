# Sourced by asr.sh in a recipe's folder.
# shellcheck shell=bash

MAIN_ROOT=$(cd ../../.. && pwd)

if [ -e "${MAIN_ROOT}/local/activate.sh" ]; then
    # shellcheck source=../../../local/activate.sh
    . "${MAIN_ROOT}/local/activate.sh"
elif ! command -v espnet-ensemble-python > /dev/null; then
    # A recipe outside a clone, which has no environment to make.
    echo "Error: expected an environment with espnet-ensemble, found none: activate yours" >&2
    return 1
fi

export PATH=${PWD}/utils:${PATH}
export LC_ALL=C
export PYTHONIOENCODING=UTF-8
# Jobs run side by side; each keeps to one core.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# Which network to use between GPUs is for NCCL to find out, but never one of these.
export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-^lo,docker,virbr,vmnet,vboxnet}
