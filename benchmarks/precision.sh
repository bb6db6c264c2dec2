#!/bin/sh
# Compares the processor time of whole training steps in bf16 (or fp16) and fp32: one rank, one thread, a small
# GPT-2 and a small Llama. Runs in the two types alternate, PAIRS of each; a run of one step is taken from a run of
# 1 + STEPS steps, so that starting up does not count. Prints the median of the seconds and of the pairs' ratios.
# User time, as other processes on the machine disturb it least.
#
#     benchmarks/precision.sh [BUILD]        PAIRS=5 STEPS=4 PRECISION=bf16
set -eu
build=$(cd "${1:-build}" && pwd)
pairs=${PAIRS:-5} steps=${STEPS:-4} precision=${PRECISION:-bf16}
here=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat "$here"/docs/*.md "$here"/*.md > "$scratch/text"
"$build/launcher/par" data --tokenizer bytes --out "$scratch/tokens.bin" --text "$scratch/text" > /dev/null

# user seconds of $1 steps in precision $2
user_seconds() {
    n=$1 type=$2
    shift 2
    (
        "$build/examples/train_llm" --data "$scratch/tokens.bin" --layers 2 --vocab 8192 --tokens 256 --batch 4 \
            --dropout 0 --split 0 --steps "$n" --warmup 0 --threads 1 --sample-tokens 0 --precision "$type" "$@" > "$scratch/log" 2>&1 || {
            cat "$scratch/log" >&2
            exit 1
        }
        times > "$scratch/times"
    )
    # the second line: user and system time of the children, 1m2.345s
    awk 'NR == 2 { split($1, t, "m"); sub("s", "", t[2]); print 60 * t[1] + t[2] }' "$scratch/times"
}

step_seconds() {
    one=$(user_seconds 1 "$@")
    all=$(user_seconds $((1 + steps)) "$@")
    echo "$one $all $steps" | awk '{ print ($2 - $1) / $3 }'
}

median() {
    sort -n | awk '{ x[NR] = $1 } END { print NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'
}

compare() {
    label=$1
    shift
    : > "$scratch/pairs"
    for _ in $(seq "$pairs"); do
        wide=$(step_seconds fp32 "$@")
        narrow=$(step_seconds "$precision" "$@")
        echo "$wide $narrow" >> "$scratch/pairs"
    done
    ratios=$(awk '{ printf " %.3f", $2 / $1 }' "$scratch/pairs")
    printf '%-8s fp32 %.3f s  %s %.3f s  ratio %.3f  (pairs%s)\n' "$label" \
        "$(awk '{ print $1 }' "$scratch/pairs" | median)" "$precision" \
        "$(awk '{ print $2 }' "$scratch/pairs" | median)" \
        "$(awk '{ print $2 / $1 }' "$scratch/pairs" | median)" "$ratios"
}

compare gpt2 --model gpt2-124m
compare llama --model llama3.2-1b --channels 768 --heads 12 --kv-heads 4 --mlp 2048
