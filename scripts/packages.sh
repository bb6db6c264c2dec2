# Debian packages of libpar, how to install them, and how to see what is missing without that.
# Sourced by quickstart and run-tests.

# An MPI that is there is taken, whichever it is: Open MPI, MPICH, Intel MPI, MVAPICH.
packages_mpi="libopenmpi-dev openmpi-bin"
if command -v mpicc >/dev/null && command -v mpirun >/dev/null; then packages_mpi=; fi
packages_build="gcc libc6-dev meson ninja-build pkg-config $packages_mpi libdnnl-dev"
packages_build="$packages_build libjansson-dev libpcre2-dev libutf8proc-dev libhdf5-dev"
packages_build="$packages_build libxxhash-dev"
packages_test="libopenmpi-dev openmpi-bin libmpich-dev mpich clang libclang-rt-dev clang-format g++"
packages_test="$packages_test file hdf5-tools procps libc6-dbg doxygen"

# What must be there, however it came there: commands, and modules of pkg-config.
tools_build="cc meson ninja pkg-config python3 mpicc mpirun" \
    modules_build="jansson libpcre2-8 libutf8proc hdf5 libxxhash"
# libc6-dbg is no command: see names_libc
tools_test="gcc g++ clang clang-format doxygen file h5dump pgrep mpicc.mpich libc6-dbg"

missing_packages() {
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
            printf '%s ' "$package"
    done
}

# Whether LeakSanitizer can name the function inside libc that tests/lsan.supp suppresses: without
# Debian's libc6-dbg it cannot, and nearly every suite fails that starts MPI.
names_libc() {
    local folder status=0
    folder=$(mktemp -d) || return 1
    gcc -x c -D_GNU_SOURCE -fsanitize=address -o "$folder/leak" - 2>/dev/null <<'END' || status=1
#include <stdio.h>
char *lost;
int main(void) {
    int n = asprintf(&lost, "%d", 1);
    lost = NULL;
    return n != 1;
}
END
    [ $status = 1 ] || ASAN_OPTIONS=detect_leaks=1 \
        LSAN_OPTIONS=suppressions=tests/lsan.supp:print_suppressions=0 \
        "$folder/leak" 2>/dev/null || status=1
    rm -r "$folder"
    return $status
}

# check_tools COMMANDS MODULES PACKAGES: everything that is missing, at once, and Debian's line for
# it; 1 if there is any.
check_tools() {
    local name missing='' packages=$3
    for name in $1; do
        if [ "$name" != libc6-dbg ]; then
            command -v "$name" >/dev/null || missing="$missing $name"
        elif ! command -v gcc >/dev/null; then
            missing="$missing $name(?)"
        elif ! names_libc; then
            missing="$missing $name"
        fi
    done
    for name in $2; do
        if ! command -v pkg-config >/dev/null; then
            missing="$missing $name(?)"
        elif ! pkg-config --exists "$name"; then
            missing="$missing $name"
        fi
    done
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086
    if command -v dpkg-query >/dev/null; then packages=$(missing_packages $3); fi
    echo "missing:$missing" >&2
    case $missing in
    *'(?)'*) echo "(?): cannot be looked for without pkg-config, or gcc" >&2 ;;
    esac
    echo "on Debian, root installs it by: apt-get update && apt-get install -y" \
        "--no-install-recommends ${packages:-$3}" >&2
    return 1
}

# An installation that was cut off leaves dpkg in the middle; apt-get refuses to go on until that is
# finished.
finish_interrupted() { # [PREFIX]
    [ -n "$(ls /var/lib/dpkg/updates 2>/dev/null)$(dpkg --audit 2>/dev/null)" ] || return 0
    echo "packages: an earlier installation was interrupted; finishing it:" \
        "${1:+$1 }dpkg --configure -a"
    ${1:-} env DEBIAN_FRONTEND=noninteractive dpkg --configure -a >/dev/null
}

# install_packages NAME...: as root, else through sudo; says which, and installs nothing that is
# there.
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
            echo "packages: missing, and there is neither root nor sudo to install them." \
                "For the administrator:" >&2
            echo "    apt-get update && apt-get install -y --no-install-recommends ${missing% }" >&2
            return 1
        fi
        prefix=sudo
    fi
    finish_interrupted $prefix || return 1
    echo "packages: installing ${prefix:+through sudo }$missing"
    $prefix apt-get update -q >/dev/null || return 1
    # shellcheck disable=SC2086
    $prefix env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        $missing >/dev/null
}
