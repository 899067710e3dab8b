#!/bin/bash
# What the scripts here have in common: install what is missing, make the venv.
# To be sourced; the sourcing script has `set -eu -o pipefail`.
# shellcheck disable=SC2034 # the lists are used by who sources this

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What a build needs (imagebuild/host/preflight.py says what for), and Python itself.
build_packages=(mmdebstrap debootstrap util-linux procps gnupg gpgv e2fsprogs mtools qemu-utils
    python3 python3-venv git ca-certificates)
# What booting an image needs.
boot_packages=(qemu-system-x86 ovmf genisoimage)

say() {
    echo "$*" >&2
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo > /dev/null; then
        sudo "$@"
    else
        say "error: installing packages needs root: run this as root, or install sudo"
        exit 4
    fi
}

# Keyrings of the archives that images are built from, as the host's distribution names them.
keyring_packages() {
    local name
    for name in debian-archive-keyring ubuntu-archive-keyring ubuntu-keyring; do
        if apt-cache policy "$name" 2> /dev/null | grep -q 'Candidate: [^(]'; then
            echo "$name"
        fi
    done
}

# need_packages NAME...: install those that are not there.
need_packages() {
    local missing=() name
    if ! command -v apt-get > /dev/null; then
        say "warning: no apt-get here: these packages must be there already: $*"
        return
    fi
    for name in "$@"; do
        if ! dpkg-query -W -f '${db:Status-Status}' "$name" 2> /dev/null | grep -qx installed; then
            missing+=("$name")
        fi
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing: ${missing[*]}"
    # A server that comes with a package is not to be started on this machine.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        "${missing[@]}" >&2
}

# refresh_apt: package lists that are there but a week old count as current.
refresh_apt() {
    if command -v apt-get > /dev/null &&
        [ -z "$(find /var/lib/apt/lists -name '*Packages*' -mtime -7 -print -quit 2> /dev/null)" ]; then
        as_root apt-get update -q >&2
    fi
}

# need_venv EXTRA (may be empty): the venv .venv with the tool in it, up to date with pyproject.toml.
# The system's own Python is preferred: a user's may be out of root's reach.
need_venv() {
    local extra=$1 python=/usr/bin/python3 stamp=$repo/.venv/.stamp${1:+-$1}
    if ! "$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 10))' 2> /dev/null; then
        python=$(command -v python3)
    fi
    if [ ! -x "$repo/.venv/bin/python" ]; then
        "$python" -m venv "$repo/.venv"
    fi
    if [ ! -e "$stamp" ] || [ "$repo/pyproject.toml" -nt "$stamp" ]; then
        say "installing the tool into .venv"
        "$repo/.venv/bin/python" -m pip install -q --disable-pip-version-check \
            -e "$repo${extra:+[$extra]}" >&2
        touch "$stamp"
    fi
}
