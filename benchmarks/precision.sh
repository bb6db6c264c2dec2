#!/bin/sh
# Compares the time of whole training steps in bf16 (or fp16) and fp32: one rank, one thread, a
# small GPT-2, a small Llama, and a GPT-2 with few tokens per step. Runs in the two types alternate,
# PAIRS of each; a run counts with the median of its STEPS steps behind the first. Prints the
# medians of runs, and the ratio of a pair: median, range.
#
#     benchmarks/precision.sh [BUILD]        PAIRS=7 STEPS=5 PRECISION=bf16
#
# PAR_CPU_RUNG=0..2 and ONEDNN_MAX_CPU_ISA=SSE41|AVX2|AVX512_CORE show it for older CPUs.
set -eu
build=$(cd "${1:-build}" && pwd)
pairs=${PAIRS:-7} steps=${STEPS:-5} precision=${PRECISION:-bf16}
here=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat "$here"/docs/*.md "$here"/*.md > "$scratch/text"
"$build/launcher/par" data --tokenizer bytes --out "$scratch/tokens.bin" --text "$scratch/text" \
    > /dev/null

median() {
    sort -n | awk '{ x[NR] = $1 }
        END { print NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'
}

# milliseconds of a step in precision $1
step_ms() {
    type=$1
    shift
    rm -f "$scratch/log"
    "$build/launcher/train_llm" --data "$scratch/tokens.bin" --dropout 0 --split 0 \
        --steps $((1 + steps)) --warmup 0 --threads 1 \
        --eval-every 0 --sample-tokens 0 --run none --precision "$type" --log "$scratch/log" \
        "$@" > "$scratch/out" 2>&1 || {
        cat "$scratch/out" >&2
        exit 1
    }
    sed -nE 's/.*"event": "step", "step": ([0-9]+),.*"seconds": ([0-9.e-]+),.*/\1 \2/p' \
        "$scratch/log" |
        awk '$1 > 1 { print 1000 * $2 }' | median
}

compare() {
    label=$1
    shift
    : > "$scratch/pairs"
    for _ in $(seq "$pairs"); do
        wide=$(step_ms fp32 "$@")
        narrow=$(step_ms "$precision" "$@")
        echo "$wide $narrow" >> "$scratch/pairs"
    done
    ratios=$(awk '{ print $2 / $1 }' "$scratch/pairs" | sort -n)
    printf '%-12s fp32 %8.1f ms  %s %8.1f ms  ratio %.3f  (%.3f to %.3f)\n' "$label" \
        "$(awk '{ print $1 }' "$scratch/pairs" | median)" "$precision" \
        "$(awk '{ print $2 }' "$scratch/pairs" | median)" \
        "$(echo "$ratios" | median)" "$(echo "$ratios" | head -n 1)" "$(echo "$ratios" | tail -n 1)"
}

compare gpt2 --model gpt2-124m --layers 2 --vocab 8192 --tokens 256 --batch 4
compare llama --model llama3.2-1b --channels 768 --heads 12 --kv-heads 4 --mlp 2048 --layers 2 \
    --vocab 8192 --tokens 256 --batch 4
steps=$((12 * steps)) # they are short
compare few-tokens --channels 256 --heads 4 --layers 4 --vocab 1024 --tokens 32 --batch 1
