#!/bin/sh
# Training on the CPU beside PyTorch, in one run on one machine: whole steps of GPT-2 124M's shape
# (clipping, AdamW) in fp32 and bf16 (PyTorch: autocast over fp32 weights), eager and compiled.
# ROUNDS rounds of all of them in turn; prints the median of each one's tokens per second, its range
# over rounds, and the ratio to libpar's median.
#
#     benchmarks/beside_pytorch.sh [BUILD]
#         PYTHON=python3 THREADS=2 ROUNDS=3 STEPS=6 LAYERS=12 TOKENS=256 BATCH=4
#         PRECISIONS="fp32 bf16"
#
# PyTorch 2.15's bf16 takes minutes per step on a CPU with AVX2 alone: PRECISIONS=fp32 there.
set -eu
build=$(cd "${1:-build}" && pwd)
python=${PYTHON:-python3} threads=${THREADS:-2} rounds=${ROUNDS:-3} steps=${STEPS:-6}
layers=${LAYERS:-12} tokens=${TOKENS:-256} batch=${BATCH:-4}
here=$(cd "$(dirname "$0")/.." && pwd)
if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "skip: $python has no PyTorch (PYTHON=...)"
    exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export OMP_NUM_THREADS="$threads"
cat "$here"/docs/*.md "$here"/*.md > "$scratch/text"
"$build/launcher/par" data --tokenizer bytes --out "$scratch/tokens.bin" --text "$scratch/text" \
    > /dev/null

# Both leave the first two steps out and take the median of the others.
libpar() { # PRECISION
    "$build/launcher/train_llm" --data "$scratch/tokens.bin" --model gpt2-124m --layers "$layers" \
        --vocab 50304 --tokens "$tokens" \
        --batch "$batch" --micro-batch "$batch" --dropout 0 --split 0 --steps $((2 + steps)) \
        --warmup 0 --threads "$threads" \
        --sample-tokens 0 --run none --precision "$1" > "$scratch/log" 2>&1 || {
        cat "$scratch/log" >&2
        exit 1
    }
    sed -nE 's/^step ([0-9]+)\/.* \| ([0-9]+) tok\/s .*/\1 \2/p' "$scratch/log" |
        awk '$1 > 2 { print $2 }' | median
}

pytorch() { # PRECISION [--eager]
    "$python" "$here/benchmarks/torch_step.py" --model gpt2-124m --layers "$layers" --tokens \
        "$tokens" --batch "$batch" --warmup 2 \
        --steps "$steps" --precision "$@" 2> "$scratch/log" |
        sed -nE 's/.*"tokens_per_s": ([0-9.]+).*/\1/p'
}

median() {
    sort -n | awk '{ x[NR] = $1 }
        END { print NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'
}

report() { # NAME FILE REFERENCE
    own=$(median < "$2")
    sort -n "$2" | awk -v name="$1" -v median="$own" -v reference="$3" \
        'NR == 1 { least = $1 } { most = $1 } END {
        printf "%-24s %7.0f tokens/s  (%.0f to %.0f)  %.2f of libpar\n",
            name, median, least, most, median / reference }'
}

echo "GPT-2 124M's shape, $layers layers, $batch x $tokens tokens per step, $threads threads;" \
    "PyTorch $("$python" -c 'import torch; print(torch.__version__)')"
for precision in ${PRECISIONS:-fp32 bf16}; do
    for _ in $(seq "$rounds"); do
        libpar "$precision" >> "$scratch/libpar.$precision"
        pytorch "$precision" --eager >> "$scratch/eager.$precision"
        pytorch "$precision" >> "$scratch/compiled.$precision"
    done
    reference=$(median < "$scratch/libpar.$precision")
    report "libpar $precision" "$scratch/libpar.$precision" "$reference"
    report "PyTorch $precision, eager" "$scratch/eager.$precision" "$reference"
    report "PyTorch $precision, compiled" "$scratch/compiled.$precision" "$reference"
done
