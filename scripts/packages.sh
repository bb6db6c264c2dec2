# Debian packages of libpar, and how to install them. Sourced by quickstart and run-tests.

packages_build="gcc libc6-dev meson ninja-build pkg-config libopenmpi-dev openmpi-bin libdnnl-dev libjansson-dev libpcre2-dev libhdf5-dev libxxhash-dev"
packages_test="clang clang-format g++ file hdf5-tools procps libc6-dbg"

missing_packages() {
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || printf '%s ' "$package"
    done
}

# install_packages NAME...: as root, else through sudo; says which, and installs nothing that is there.
install_packages() {
    local missing prefix=
    if ! command -v dpkg-query >/dev/null; then
        echo "packages: this is no Debian; please see that there are: $*"
        return 0
    fi
    missing=$(missing_packages "$@")
    if [ -z "$missing" ]; then
        echo "packages: all there"
        return 0
    fi
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "packages: missing $missing- neither root nor sudo is to be had; install them, then use --no-install" >&2
            return 1
        fi
        prefix=sudo
    fi
    echo "packages: installing ${prefix:+through sudo }$missing"
    $prefix apt-get update -q >/dev/null || return 1
    # shellcheck disable=SC2086
    $prefix env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >/dev/null
}
