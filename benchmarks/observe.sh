#!/bin/bash
# observe.sh BUILD [PAIRS]: what observers cost. In turn, runs of one training with all of them off,
# with --trace of all its steps, and with all of them on: the matrix with its prediction, the trace,
# health every 10 steps, memory, cost with the energy meter, the watchdog, the run's directory.
# Compared are the shortest 10 steps in a row, in which each observer has its turn; printed are the
# ratios of each round and their medians, as other programs take from the cores now and then.
# Ranks: RANKS (1), options: OPTIONS, steps: STEPS (120).
set -eu -o pipefail
build=$(cd "$1" && pwd) pairs=${2:-5} ranks=${RANKS:-1} steps=${STEPS:-120}
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/scripts/mpi.sh"
mpi_flags
options=${OPTIONS:---layers 4 --channels 128 --tokens 64 --batch 8 --micro-batch 2}
place=$(mktemp -d) && cd "$place"
trap 'rm -rf "$place"' EXIT
seq 1 60000 >text
"$build/launcher/par" data --out tokens.bin --text text >/dev/null

# The shortest 10 steps in a row, in seconds.
shortest() {
    local launch=''
    [ "$ranks" = 1 ] || launch="mpirun $mpirun_flags -n $ranks"
    rm -rf log run
    # shellcheck disable=SC2086
    $launch "$build/launcher/train_llm" --data tokens.bin --steps "$steps" --log log \
        --sample-tokens 0 --eval-every 0 $options "$@" >out
    python3 -c 'import json
t = [r["measured"]["seconds"] for r in map(json.loads, open("log")) if r.get("event") == "step"]
print(min(sum(t[i:i + 10]) for i in range(len(t) - 9)))'
}

echo "load $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) cores; ranks $ranks; $options"
for ((i = 1; i <= pairs; i++)); do
    off=$(shortest --run none --health-every 0 --stall-timeout 0)
    trace=$(shortest --run none --health-every 0 --stall-timeout 0 --trace "1-$steps" \
        --trace-file trace.json)
    all=$(shortest --run run --save none --health-every 10 --comm-matrix --trace "1-$steps" \
        --price-per-hour 1 --energy-price 1)
    python3 -c "print(f'off {$off * 100:.3f} ms per step, trace {$trace / $off:.4f}, '
                      f'all {$all / $off:.4f}')" | tee -a ratios
done
grep '^trace:' out
python3 -c "import statistics
rows = [line.replace(',', '').split() for line in open('ratios')]
for name, at in ('trace', 6), ('all', 8):
    print(f'median ratio of {name}: {statistics.median(float(r[at]) for r in rows):.4f}, '
          f'of {len(rows)} rounds')"
