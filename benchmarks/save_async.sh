#!/bin/bash
# save_async.sh BUILD [SAVES]: how long a training stands still for saves in the background. One
# training with --save-async saves every eighth step: a save takes six boundaries of steps at least,
# and the next one waits for it. train_llm prints for how long it waited: for the copy of the state,
# for polls after each step, for the end. benchmarks/checkpoint then times a memory copy of as many
# bytes on as many ranks. Printed: waited less copy, in percent of a step. The first save's copy
# meets memory that nobody used before; it is not counted.
# Ranks: RANKS (1), their layout and the model: OPTIONS, the folder of checkpoints: TMPDIR.
set -eu -o pipefail
build=$(cd "$1" && pwd) saves=${2:-6} ranks=${RANKS:-1}
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/scripts/mpi.sh"
mpi_flags
options=${OPTIONS:---model gpt2-124m --tokens 256 --batch 4 --vocab 50304}
place=$(mktemp -d) && cd "$place"
trap 'rm -rf "$place"' EXIT
seq 1 60000 >text
"$build/launcher/par" data --out tokens.bin --text text >/dev/null

echo "load $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) cores; ranks $ranks; $options"
# shellcheck disable=SC2086
mpirun $mpirun_flags --bind-to none -n "$ranks" "$build/launcher/train_llm" --data tokens.bin \
    --steps $((8 * saves + 7)) --save ck --save-async --save-every 8 --keep 1 --run none \
    --log log --sample-tokens 0 --eval-every 0 $options >out
grep '^saved' out
mib=$(awk '/^saved/ { print $4; exit }' out)
# shellcheck disable=SC2086
mpirun $mpirun_flags --bind-to none -n "$ranks" "$build/benchmarks/checkpoint" "$place" \
    $(awk -v all="$mib" -v n="$ranks" 'BEGIN { print 32 * int(all / n / 32) }') 5 >copies
python3 -c "import json, re, statistics
steps = [r['measured']['seconds'] for r in map(json.loads, open('log')) if r.get('event') == 'step']
waited = [float(x) for x in re.findall(r'training waited ([0-9.]+) s', open('out').read())][1:]
copies = [float(line.split()[8]) for line in open('copies') if line[0] == ' '][1:]
step, wait, copy = map(statistics.median, (steps, waited, copies))
print(f'step {step:.3f} s, waited {wait:.4f} s ({min(waited):.4f} to {max(waited):.4f}), copy '
      f'{copy:.4f} s ({min(copies):.4f} to {max(copies):.4f}): beyond the copy '
      f'{100 * (wait - copy) / step:.2f} % of a step')"
