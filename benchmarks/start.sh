#!/bin/bash
# How long a training takes to begin: seconds from the start of the process to the end of its first
# step, which is told too. GPT-2 124M's shape, 64 tokens, batch 1. Cases: weights that are drawn;
# those of a Hugging Face directory (--import), and of a checkpoint (--resume), which are not drawn
# before. ROUNDS rounds of all in turn; median and range.
#
#     benchmarks/start.sh [BUILD]     THREADS=2 ROUNDS=5 RANKS=1 (tp) PRECISION=fp32
#
# Takes about 2 GB below TMPDIR. The files are in the page cache, as they were just written.
set -eu
build=$(cd "${1:-build}" && pwd)
threads=${THREADS:-2} rounds=${ROUNDS:-5} ranks=${RANKS:-1} precision=${PRECISION:-fp32}
here=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
. "$here/scripts/mpi.sh"
export OMPI_MCA_ess_singleton_isolated=1
seq 1 20000 >"$scratch/text"
"$build/launcher/par" data --out "$scratch/tokens.bin" --text "$scratch/text" >/dev/null
run=("$build/launcher/train_llm")
# shellcheck disable=SC2206
[ "$ranks" = 1 ] || run=(mpirun $mpirun_flags -n "$ranks" "$build/launcher/train_llm" --tp "$ranks")
options=(--data "$scratch/tokens.bin" --tokens 64 --batch 1 --threads "$threads" --run none
    --precision "$precision" --eval-every 0 --eval-batches 1 --sample-tokens 0 --warmup 0)

"${run[@]}" "${options[@]}" --model gpt2-124m --steps 1 --save "$scratch/checkpoint" \
    >"$scratch/out" 2>&1 || { cat "$scratch/out" >&2; exit 1; }
"$build/launcher/par" checkpoint export "$scratch/checkpoint" --hf "$scratch/model" \
    >"$scratch/out" 2>&1 || { cat "$scratch/out" >&2; exit 1; }

case_of() { # NAME OPTIONS...: seconds to the end of step COUNT, and of that step
    local name=$1 step=$2 begin end ms
    shift 2
    begin=$(date +%s.%N)
    while IFS= read -r line; do
        [[ $line == "step $step/"* ]] || continue
        end=$(date +%s.%N)
        ms=$(sed -nE 's/.* \| ([0-9.]+) (ms|s) \| .*/\1 \2/p' <<<"$line")
    done < <("${run[@]}" "${options[@]}" --steps "$step" "$@" 2>&1)
    awk -v b="$begin" -v e="$end" -v ms="$ms" 'BEGIN {
        split(ms, t, " "); print e - b, t[1] / (t[2] == "ms" ? 1000 : 1) }' >>"$scratch/$name"
}
middle() { # COLUMN FILE: median, least, most
    cut -d' ' -f"$1" "$2" | sort -n | awk '{ x[NR] = $1 } END { printf "%6.2f s (%.2f to %.2f)",
        NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2, x[1], x[NR] }'
}

echo "GPT-2 124M's shape, 64 tokens, batch 1, $precision, $ranks ranks of $threads threads," \
    "$rounds rounds"
echo "machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)," \
    "$(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg)"
for _ in $(seq "$rounds"); do
    case_of drawn 1 --model gpt2-124m
    case_of imported 1 --import "$scratch/model"
    case_of resumed 2 --resume "$scratch/checkpoint"
done
for name in drawn imported resumed; do
    printf '%-10s first step done after %s; the step itself %s\n' "$name" \
        "$(middle 1 "$scratch/$name")" "$(middle 2 "$scratch/$name")"
done
echo "load at the end: $(cut -d' ' -f1-3 /proc/loadavg)"
