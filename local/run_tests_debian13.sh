#!/usr/bin/env bash
# Run the tests on a clean Debian 13 (Python 3.13, so ESPnet 202611 or newer), in a folder
# of this machine: local/run_tests_debian13.sh ROOT [OPTION...], as root. The options are
# those of local/run_tests.sh.
#
# The first run makes ROOT (0.5 GB) and installs in it what the tests need (5 GB, some
# minutes); others go on with it. It tests the last commit, in a clone of its own.

set -euo pipefail
cd "$(dirname "$0")/.."

PACKAGES=python3,python3-venv,python3-dev,git,gcc,g++,make,ca-certificates
MADE=.made_by_run_tests_debian13

fail() {
    echo "Error: $1" >&2
    exit 1
}

make_root() {
    [ -e "${root}/${MADE}" ] && return
    if [ -n "$(ls -A "${root}" 2> /dev/null)" ]; then
        fail "expected nothing in ${root}, or what an earlier run has finished; remove it"
    fi
    debootstrap --variant=minbase --include="${PACKAGES}" trixie "${root}"
    touch "${root}/${MADE}"
}

# Names and certificates as on this machine, which may be behind a proxy.
copy_network_settings() {
    local file
    for file in /etc/resolv.conf /etc/ssl/certs/ca-certificates.crt; do
        if [ -e "${file}" ]; then
            cp -L "${file}" "${root}${file}"
        fi
    done
}

update_clone() {
    local clone=${root}/root/espnet-ensemble bundle=${root}/root/checkout.bundle
    # A bundle: root may read a checkout of somebody else's, but git does not clone it.
    git -c safe.directory="${PWD}" bundle create --quiet "${bundle}" HEAD
    [ -d "${clone}" ] || git init --quiet "${clone}"
    git -C "${clone}" fetch --quiet "${bundle}" HEAD
    git -C "${clone}" checkout --quiet --force --detach FETCH_HEAD
    # All but the environment that local/run_tests.sh makes.
    git -C "${clone}" clean --quiet -dffx --exclude=/venv
}

run_inside() {
    local variable settings=()
    for variable in {http,https,no}_proxy {HTTP,HTTPS,NO}_PROXY PIP_{CERT,INDEX_URL,EXTRA_INDEX_URL}; do
        if [ -n "${!variable-}" ]; then
            settings+=("${variable}=${!variable}")
        fi
    done
    # In a namespace of their own, mounts are gone when the last process that sees them
    # ends, however it does: nothing of this machine can be removed with ROOT.
    # shellcheck disable=SC2016
    exec unshare --mount bash -euc '
        root=$1; shift
        mount --make-rprivate /
        mount -t proc proc "${root}/proc"
        mount --rbind /dev "${root}/dev"  # with pseudo-terminals and shared memory
        exec chroot "${root}" "$@"
    ' bash "${root}" env --ignore-environment "${settings[@]}" \
        HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        /root/espnet-ensemble/local/run_tests.sh "$@"
}

case ${1--} in
    -*) fail "expected a folder: $0 ROOT [options of local/run_tests.sh]" ;;
esac
[ "$(id -u)" = 0 ] || fail "expected to be root, who may chroot: sudo $0 $*"
command -v debootstrap > /dev/null ||
    fail "found no debootstrap; install it: apt-get install debootstrap"
mkdir -p "$1"
root=$(cd "$1" && pwd)
shift
make_root
copy_network_settings
update_clone
run_inside "$@"
