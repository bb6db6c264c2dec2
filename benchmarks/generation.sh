#!/bin/bash
# Greedy generation, batch 1, beside Hugging Face transformers in one run on one machine: GPT-2
# 124M's shape with random weights, made here. ROUNDS rounds of all of them in turn; prints the
# median of each one's tokens per second, its range over rounds, and its ratio to transformers' in
# the same precision; and libpar's time from the start of the process to the first token.
#
#     benchmarks/generation.sh [BUILD]     PYTHON=python3 (with torch and transformers) THREADS=2
#                                          ROUNDS=3 TOKENS=64 PROMPT=5 (tokens) RANKS=1 (libpar's,
#                                          tp) LOOPS=0 (busy loops beside all of it)
#
# THREADS=0: as many as the library, and PyTorch, choose.
set -eu
build=$(cd "${1:-build}" && pwd)
python=${PYTHON:-python3} threads=${THREADS:-2} rounds=${ROUNDS:-3} tokens=${TOKENS:-64}
n_prompt=${PROMPT:-5} ranks=${RANKS:-1} n_loops=${LOOPS:-0}
here=$(cd "$(dirname "$0")/.." && pwd)
if ! "$python" -c 'import torch, transformers' 2>/dev/null; then
    echo "skip: $python has no PyTorch or no transformers (PYTHON=...)"
    exit 77
fi
scratch=$(mktemp -d)
loops=
end() {
    for loop in $loops; do kill "$loop" 2>/dev/null || true; done
    rm -rf "$scratch"
}
trap end EXIT
. "$here/scripts/mpi.sh"
"$python" -c 'import sys, torch, transformers as t
torch.manual_seed(0)
t.GPT2LMHeadModel(
    t.GPT2Config(eos_token_id=None, bos_token_id=None)).save_pretrained(sys.argv[1])' \
    "$scratch/model" >/dev/null 2>&1

prompt=$(printf '%*s' "$n_prompt" '' | tr ' ' a)
run=("$build/launcher/train_llm")
# shellcheck disable=SC2206
[ "$ranks" = 1 ] || run=(mpirun $mpirun_flags -n "$ranks" "$build/launcher/train_llm" --tp "$ranks")
for _ in $(seq "$n_loops"); do
    (while :; do :; done) &
    loops="$loops $!"
done

libpar() { # PRECISION QUANTIZE: tokens per second, seconds to the first token
    "${run[@]}" --sample --import "$scratch/model" --tokenizer bytes --prompt "$prompt" \
        --sample-tokens "$tokens" --temperature 0 --precision "$1" --quantize "$2" \
        --threads "$threads" > "$scratch/out" 2>&1 || { cat "$scratch/out" >&2; exit 1; }
    local drawn="[0-9]+ tokens? drawn in .* s, ([0-9.]+) per second"
    sed -nE "s/^$drawn; .*, ([0-9.]+) s after the start$/\1 \2/p" "$scratch/out"
}
theirs() { # PRECISION
    "$python" "$here/benchmarks/torch_generate.py" "$scratch/model" --tokens "$tokens" \
        --precision "$1" --threads "$threads" --prompt "$n_prompt" 2> /dev/null |
        sed -nE 's/.*"tokens_per_s": ([0-9.]+).*/\1/p'
}
median() { sort -n | awk \
    '{ x[NR] = $1 } END { print NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'; }
report() { # NAME FILE REFERENCE UNIT
    sort -n "$2" | awk -v name="$1" -v median="$(median < "$2")" -v reference="$3" -v unit="$4" \
        'NR == 1 { least = $1 } { most = $1 }
        END { printf "%-28s %6.2f %s  (%.2f to %.2f)%s\n", name, median, unit, least, most,
              reference ? sprintf("  %.2f of transformers", median / reference) : "" }'
}

echo "GPT-2 124M's shape, greedy, batch 1, $tokens tokens behind $n_prompt, $threads threads," \
    "$ranks ranks, $n_loops busy loops;" \
    "PyTorch $("$python" -c 'import torch; print(torch.__version__)')," \
    "transformers $("$python" -c 'import transformers; print(transformers.__version__)' \
        2>/dev/null)"
echo "machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)," \
    "$(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg)"
for precision in fp32 bf16; do
    for _ in $(seq "$rounds"); do
        for quantize in none int8; do
            read -r speed first < <(libpar "$precision" "$quantize")
            echo "$speed" >> "$scratch/libpar.$precision.$quantize"
            echo "$first" >> "$scratch/first.$precision.$quantize"
        done
        theirs "$precision" >> "$scratch/theirs.$precision"
    done
    reference=$(median < "$scratch/theirs.$precision")
    report "transformers $precision" "$scratch/theirs.$precision" "$reference" "tokens/s"
    for quantize in none int8; do
        name="libpar $precision"
        [ "$quantize" = none ] || name="$name, 8-bit weights"
        report "$name" "$scratch/libpar.$precision.$quantize" "$reference" "tokens/s"
        report "  its first token" "$scratch/first.$precision.$quantize" 0 "s"
    done
done
echo "load at the end: $(cut -d' ' -f1-3 /proc/loadavg)"
