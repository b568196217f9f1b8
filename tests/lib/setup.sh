# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# Sourced by tests/run and ./demo: Debian packages and a virtual environment, installed once and kept outside the checkout.

# Newest Python first; PODFERRY_PYTHON names another. Prints its path, fails where none is new enough.
podferry_python() {
    for candidate in ${PODFERRY_PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    echo "podferry.live: needs Python 3.11 or later (set PODFERRY_PYTHON to its path)" >&2
    return 1
}

# Installs the given Debian packages that are missing. Touches nothing when all are there.
podferry_packages() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "podferry.live: run as root, or install first:$missing" >&2
        return 1
    fi
    echo "installing Debian packages:$missing" >&2
    apt-get update -qq >&2 || echo "apt-get update failed, going on with the lists there are" >&2
    # shellcheck disable=SC2086 # a list of names
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# What the lab is made with (docs/lab.md); roles/lab/tasks/host.yml asks for the same programs.
podferry_lab_packages() {
    podferry_packages debootstrap iproute2 netcat-openbsd openssh-client openssl procps util-linux
}

# What the unit tests of stores run: a real registry, and the tools that nodes have. Debian's package starts a registry at once where
# there is systemd; the tests start their own, so that one is stopped again.
podferry_store_packages() {
    registry=$(command -v docker-registry || true)
    podferry_packages age docker-registry openssl zstd
    if [ -z "$registry" ] && [ -d /run/systemd/system ]; then
        systemctl disable --quiet --now docker-registry.service || true
    fi
}

# podferry_venv REQUIREMENTS: prints the path of a virtual environment with them, made on first use. Its name is the digest of
# the requirements and the interpreter, so a changed list gets a new one; a half-made one has no `.complete` and is made again.
podferry_venv() {
    python=$(podferry_python) || return 1
    "$python" -c 'import ensurepip, venv' 2>/dev/null || podferry_packages python3-venv || return 1
    digest=$({ "$python" -c 'import sys; print(sys.version, sys.base_prefix)'; cat requirements.txt "$1"; } | sha256sum | cut -c1-16)
    cache=${PODFERRY_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/podferry-live}
    venv=$cache/venv-$digest
    if [ ! -e "$venv/.complete" ]; then
        echo "making a virtual environment in $venv" >&2
        mkdir -p "$cache"
        rm -rf "$venv"
        "$python" -m venv "$venv" >&2 || return 1
        # pip says a good deal that is not about us; keep it for the case that it fails.
        if ! "$venv/bin/python" -m pip install --disable-pip-version-check -q -r "$1" >"$venv/pip.log" 2>&1; then
            tail -n 30 "$venv/pip.log" >&2
            echo "podferry.live: installing $1 failed (whole log: $venv/pip.log)" >&2
            return 1
        fi
        : >"$venv/.complete"
    fi
    printf '%s\n' "$venv"
}
