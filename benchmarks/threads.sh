#!/bin/bash
# Steps of train_llm with two builds in turn: one from another state of the sources, to compare with, and this one.
# Each line is a case: threads, precision, what runs beside it; the median over ROUNDS of each build's median step in ms
# with its range, and the median and range of the rounds' ratios (new / old).
#
#     benchmarks/threads.sh OLD_TRAIN_LLM NEW_TRAIN_LLM [CASES]     ROUNDS=9 STEPS=12
#
# CASES (default: all): idle, beside (two busy loops of the shell), ranks (4 ranks, whose threads the program leaves to the
# library; the old build gets OMP_NUM_THREADS=1).
set -eu
old=$1 new=$2 cases=${3:-idle beside ranks} rounds=${ROUNDS:-9} steps=${STEPS:-12}
here=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
loops=
end() {
    for loop in $loops; do kill "$loop" 2>/dev/null || true; done
    rm -rf "$scratch"
}
trap end EXIT
cat "$here"/docs/*.md > "$scratch/text"
"$(dirname "$new")/../launcher/par" data --tokenizer bytes --out "$scratch/tokens.bin" --text "$scratch/text" > /dev/null

small="--vocab 256"
shape124="--model gpt2-124m --layers 2 --vocab 8192 --tokens 128 --batch 2 --micro-batch 2"

middle() { # COLUMN FILE: median, least, most
    cut -d' ' -f"$1" "$2" | sort -n | awk '{ x[NR] = $1 } END {
        printf "%.4g (%.4g to %.4g)", NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2, x[1], x[NR] }'
}

# The median step in ms without the first two; a run that takes more than 2 minutes is an error.
run() { # PROGRAM OPTIONS...
    timeout -k 1 120 "$1" --data "$scratch/tokens.bin" --dropout 0 --split 0 --warmup 0 --sample-tokens 0 \
        --steps $((steps + 2)) "${@:2}" > "$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
    sed -nE 's/^step ([0-9]+)\/.* \| ([0-9.]+) ms .*/\1 \2/p' "$scratch/log" |
        awk '$1 > 2 { print $2 }' | sort -n | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'
}

pairs() { # LABEL OLD_OPTIONS -- NEW_OPTIONS
    local label=$1 first second
    : > "$scratch/pairs"
    for round in $(seq "$rounds"); do
        if [ $((round % 2)) = 0 ]; then
            first=$(run "$old" $2)
            second=$(run "$new" $3)
        else
            second=$(run "$new" $3)
            first=$(run "$old" $2)
        fi
        awk -v a="$first" -v b="$second" 'BEGIN { print a, b, b / a }' >> "$scratch/pairs"
    done
    printf '%-36s old %s ms | new %s ms | new / old %s\n' "$label" "$(middle 1 "$scratch/pairs")" \
        "$(middle 2 "$scratch/pairs")" "$(middle 3 "$scratch/pairs")"
}

echo "# $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(nproc) cores; $rounds rounds of $steps steps; load $(cut -d' ' -f1-3 /proc/loadavg)"
for what in $cases; do
    case $what in
    idle)
        for precision in fp32 bf16; do
            for threads in 1 2; do
                options="--threads $threads --precision $precision"
                pairs "small, $precision, $threads threads" "$small $options" "$small $options"
                pairs "124M's shape, $precision, $threads threads" "$shape124 $options" "$shape124 $options"
            done
        done
        ;;
    beside) # the new build with one thread is the old one here
        for _ in 1 2; do
            sh -c 'while :; do :; done' &
            loops="$loops $!"
        done
        old_program=$old
        old=$new
        for precision in fp32 bf16; do
            pairs "beside 2 loops, small, $precision: 1, 2" "$small --threads 1 --precision $precision" "$small --threads 2 --precision $precision"
            pairs "beside 2 loops, 124M, $precision: 1, 2" "$shape124 --threads 1 --precision $precision" "$shape124 --threads 2 --precision $precision"
        done
        old=$old_program
        for loop in $loops; do kill "$loop"; done
        loops=
        ;;
    ranks) . "$here/scripts/mpi.sh" ;;
    esac
done
