#!/bin/sh
# Reference results in the layouts tp 1, 2, 4 x pp 1, 2 x dp 1, 2: the cases of tests/fixtures always, those of the
# shared folder (PAR_SHARED, else ../shared) where it is there. One line a case and layout, as the harness prints them.
# Usage: tests/train/oracle.sh [BUILD]      Exit status: 0 all good, 1 otherwise.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
program=${1:-$root/build}/tests/oracle
fixtures=$root/tests/fixtures
shared=${PAR_SHARED:-$root/../shared}
layouts=
for tp in 1 2 4; do for pp in 1 2; do for dp in 1 2; do layouts=$layouts:$tp,$pp,$dp; done; done; done
layouts=${layouts#:}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1

compare() {
    mpirun --oversubscribe --bind-to none -n 16 "$program" "$@" --layouts "$layouts" --summary
}

if [ ! -x "$program" ]; then
    echo "skip oracle/all: there is no $program (built without MPI?)"
    exit 0
fi
bad=0
if [ -d "$shared/oracles" ]; then
    # the full cases; the fixtures are parts of two of them
    compare "$shared/oracles/gpt2-tiny" "$shared/oracles/llama-gqa" "$shared/oracles/llama-tied" || bad=1
    compare "$shared/oracles/gpt2-tiny-hub-names" --reference "$shared/oracles/gpt2-tiny" || bad=1
    layouts=1,1,1
else
    echo "skip oracle/shared: there is no $shared/oracles; the cases of tests/fixtures run"
fi
compare "$fixtures/gpt2-tiny" "$fixtures/llama-tied" || bad=1
exit $bad
