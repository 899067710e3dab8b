#!/bin/bash
# What the scripts here have in common: install what is missing, make the venv.
# To be sourced; the sourcing script has `set -eu -o pipefail`.
# shellcheck disable=SC2034 # the lists are used by who sources this

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What a build needs (imagebuild/host/preflight.py says what for), and Python itself.
build_packages=(mmdebstrap debootstrap apt dpkg util-linux mount procps gnupg gpgv e2fsprogs mtools
    qemu-utils python3 python3-venv git ca-certificates zstd)
# What verifying an image needs beyond booting it: the services below Trove.
verify_packages=(rabbitmq-server mariadb-server)
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

os_release=/etc/os-release

# package_manager: apt, dnf, or nothing. Not by the programs that are there: mmdebstrap brings
# apt to Fedora.
package_manager() {
    (
        ID='' ID_LIKE=''
        # shellcheck source=/dev/null
        [ ! -e "$os_release" ] || . "$os_release"
        case " $ID $ID_LIKE " in
            *' debian '* | *' ubuntu '*) echo apt ;;
            *' fedora '* | *' rhel '* | *' centos '*) echo dnf ;;
        esac
    )
}

# Keyrings of the archives that images are built from, as the host's distribution names them.
keyring_packages() {
    if [ "$(package_manager)" != apt ]; then
        printf '%s\n' debian-archive-keyring ubuntu-keyring
        return
    fi
    known_packages debian-archive-keyring ubuntu-archive-keyring ubuntu-keyring
}

# The docker engine, and a client with BuildKit: of one package, or of three. A host that has an
# engine from elsewhere keeps it: the packages would drive each other out.
docker_packages() {
    if ! command -v dockerd > /dev/null || has_package "$(package_manager)" docker.io; then
        known_packages docker.io docker-cli docker-buildx
    fi
}

# Those of the names that the host's apt has. Asked at once: every call reads all of apt's lists.
known_packages() {
    apt-cache policy "$@" 2> /dev/null |
        awk '/^[^ ].*:$/ { name = substr($0, 1, length($0) - 1) } /Candidate: [^(]/ { print name }'
}

# need_packages NAME...: install those that are not there, given by their Debian names.
need_packages() {
    local missing=() name names=("$@") manager
    manager=$(package_manager)
    case $manager in
        apt) ;;
        dnf) mapfile -t names < <(fedora_names "$@") ;;
        *)
            say "warning: neither apt nor dnf is used here: these must be there already: $*"
            return
            ;;
    esac
    for name in "${names[@]}"; do
        has_package "$manager" "$name" || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing: ${missing[*]}"
    if [ "$manager" = dnf ]; then
        as_root dnf install -y -q "${missing[@]}" >&2
        return
    fi
    # A server that comes with a package is not to be started on this machine: packages ask
    # policy-rc.d (invoke-rc.d(8)). One that is there already is the host's own, and stays.
    # shellcheck disable=SC2016 # the inner shell's variables
    as_root bash -eu -c '
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            trap "rm -f $policy" EXIT
            printf "#!/bin/sh\nexit 101\n" > "$policy"
            chmod 0755 "$policy"
        fi
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
    ' need_packages "${missing[@]}" >&2
}

has_package() {
    if [ "$1" = dnf ]; then
        rpm -q --quiet "$2"
    else
        dpkg-query -W -f '${db:Status-Status}' "$2" 2> /dev/null | grep -qx installed
    fi
}

# fedora_names NAME...: Debian's names in Fedora's words, one a line; the tool knows them.
fedora_names() {
    PYTHONPATH=$repo python3 -c 'import sys
from imagebuild.doctor.packages import Family, local_names
print("\n".join(local_names(sys.argv[1:], Family.FEDORA)))' "$@"
}

# refresh_apt: package lists that are there but a week old count as current.
refresh_apt() {
    if [ "$(package_manager)" = apt ] &&
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
