# Sourced, with MAIN_ROOT set to the clone: activates a Python environment that has the
# plugin. If none is active, it is `venv` in the clone: made at first use, and brought up to
# date when pyproject.toml has changed.
# shellcheck shell=bash

make_venv() {
    local venv=${MAIN_ROOT}/venv wanted
    wanted=$(cksum < "${MAIN_ROOT}/pyproject.toml")
    if [ "$(cat "${venv}/.installed" 2> /dev/null)" != "${wanted}" ]; then
        echo "Installing in ${venv}: some minutes, and 3 GB with all that it depends on"
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
            echo "Error: Python 3.10 or newer is needed, found $(python3 --version)" >&2
            return 1
        }
        python3 -m venv "${venv}" || return 1
        # pip 26.3 refuses one of the dependencies of ESPnet 202511.
        "${venv}/bin/python" -m pip install --quiet "pip<26.3" || return 1
        "${venv}/bin/python" -m pip install --progress-bar off --editable "${MAIN_ROOT}[all]" |
            sed -un 's/^Collecting/  &/p; s/^Successfully installed.*/  done/p'
        [ "${PIPESTATUS[0]}" = 0 ] || return 1
        echo "${wanted}" > "${venv}/.installed"
    fi
    # shellcheck disable=SC1091
    . "${venv}/bin/activate"
}

if ! command -v espnet-ensemble-python > /dev/null; then
    make_venv
fi
