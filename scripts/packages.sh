# Debian packages of libpar, how to install them, and how to see what is missing without that. Sourced by quickstart and
# run-tests.

packages_build="gcc libc6-dev meson ninja-build pkg-config libopenmpi-dev openmpi-bin libdnnl-dev libjansson-dev libpcre2-dev libhdf5-dev libxxhash-dev"
packages_test="clang libomp-dev clang-format g++ file hdf5-tools procps libc6-dbg"

# What must be there, however it came there: COMMAND:PACKAGE, or MODULE=PACKAGE for pkg-config.
tools_build="cc:gcc meson:meson ninja:ninja-build pkg-config:pkg-config python3:python3 mpicc:libopenmpi-dev mpirun:openmpi-bin
jansson=libjansson-dev libpcre2-8=libpcre2-dev hdf5=libhdf5-dev libxxhash=libxxhash-dev"
tools_test="gcc:gcc g++:g++ clang:clang clang-format:clang-format file:file h5dump:hdf5-tools pgrep:procps"

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'install ok installed'; }

missing_packages() {
    for package in "$@"; do
        installed "$package" || printf '%s ' "$package"
    done
}

# check_tools TOOL...: everything that is missing, at once, and the line that installs it on Debian; 1 if there is any.
check_tools() {
    local tool names='' packages=''
    for tool in "$@"; do
        case $tool in
        *:*) ! command -v "${tool%:*}" >/dev/null || continue ;;
        *)
            if command -v pkg-config >/dev/null; then
                ! pkg-config --exists "${tool%=*}" || continue
            else
                ! installed "${tool#*=}" || continue
            fi
            ;;
        esac
        names="$names ${tool%[:=]*}"
        case " $packages " in *" ${tool#*[:=]} "*) ;; *) packages="$packages ${tool#*[:=]}" ;; esac
    done
    [ -n "$names" ] || return 0
    echo "missing:$names" >&2
    echo "on Debian, root installs them by: apt-get update && apt-get install -y --no-install-recommends$packages" >&2
    return 1
}

# An installation that was cut off leaves dpkg in the middle; apt-get refuses to go on until that is finished.
finish_interrupted() { # [PREFIX]
    [ -n "$(ls /var/lib/dpkg/updates 2>/dev/null)$(dpkg --audit 2>/dev/null)" ] || return 0
    echo "packages: an earlier installation was interrupted; finishing it: ${1:-} dpkg --configure -a"
    ${1:-} env DEBIAN_FRONTEND=noninteractive dpkg --configure -a >/dev/null
}

# install_packages NAME...: as root, else through sudo; says which, and installs nothing that is there.
install_packages() {
    local missing prefix=
    if ! command -v dpkg-query >/dev/null; then
        echo "packages: this is not a Debian; please see that there are: $*"
        return 0
    fi
    missing=$(missing_packages "$@")
    if [ -z "$missing" ]; then
        echo "packages: all there"
        return 0
    fi
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "packages: missing, and there is neither root nor sudo to install them. For the administrator:" >&2
            echo "    apt-get update && apt-get install -y --no-install-recommends ${missing% }" >&2
            return 1
        fi
        prefix=sudo
    fi
    finish_interrupted $prefix || return 1
    echo "packages: installing ${prefix:+through sudo }$missing"
    $prefix apt-get update -q >/dev/null || return 1
    # shellcheck disable=SC2086
    $prefix env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >/dev/null
}
