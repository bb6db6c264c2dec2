#!/bin/bash
# observe.sh BUILD [PAIRS]: what tracing costs. Pairs of runs of one training, without and with
# --trace of all its steps, in turn; the ratio of the shortest steps of each pair, and their median:
# what other programs take from the cores is in no shortest step. Ranks: RANKS (1), options:
# OPTIONS.
set -eu -o pipefail
build=$(cd "$1" && pwd) pairs=${2:-5} ranks=${RANKS:-1}
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/scripts/mpi.sh"
mpi_flags
options=${OPTIONS:---layers 4 --channels 128 --tokens 64 --batch 8 --micro-batch 2}
place=$(mktemp -d) && cd "$place"
trap 'rm -rf "$place"' EXIT
seq 1 60000 >text
"$build/launcher/par" data --out tokens.bin --text text >/dev/null
steps=60

# The shortest of the steps' seconds.
shortest() {
    local launch=''
    [ "$ranks" = 1 ] || launch="mpirun $mpirun_flags -n $ranks"
    rm -f log
    # shellcheck disable=SC2086
    $launch "$build/launcher/train_llm" --data tokens.bin --steps $steps --run none --log log \
        --sample-tokens 0 $options "$@" >out
    python3 -c 'import json
print(min(r["measured"]["seconds"] for r in map(json.loads, open("log")) if r.get("event") == "step"))'
}

echo "load $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) cores; ranks $ranks; $options"
for ((i = 1; i <= pairs; i++)); do
    off=$(shortest) on=$(shortest --trace 1-$steps --trace-file trace.json)
    python3 -c "print(f'off {$off * 1e3:.3f} ms  on {$on * 1e3:.3f} ms  ratio {$on / $off:.4f}')" |
        tee -a ratios
done
grep '^trace:' out

python3 -c "import statistics
r = [float(line.split()[-1]) for line in open('ratios')]
print(f'median ratio {statistics.median(r):.4f} of {len(r)} pairs')"
