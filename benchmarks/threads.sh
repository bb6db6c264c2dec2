#!/bin/bash
# Steps of train_llm with two builds in turn: one of another state of the sources, to compare with,
# and this one. Each line is a case: threads, precision, what runs beside it; the median over ROUNDS
# of each build's fastest step in ms with its range (beside other work: of its median step), and the
# median and range of the rounds' ratios (new / old). In the cases "idle" OMP_NUM_THREADS is what
# --threads says, since a build may leave a library's threads to it.
#
#     benchmarks/threads.sh OLD_TRAIN_LLM NEW_TRAIN_LLM [CASES]     ROUNDS=9 STEPS=12
#
# CASES (default: all): idle; beside: the new build with one thread ("old") and two, both beside two
# busy loops; ranks: benchmarks/embedded on 4 ranks with one thread each ("old") and with the
# library's default; layouts (only if asked for): both builds on 2 ranks with one thread each; split
# (only if asked for): the new build as one rank with two threads ("old") and as two with one each.
set -eu
old=$(realpath "$1") new=$(realpath "$2") cases=${3:-idle beside ranks} rounds=${ROUNDS:-9} \
    steps=${STEPS:-12}
here=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
loops=
end() {
    for loop in $loops; do kill "$loop" 2>/dev/null || true; done
    rm -rf "$scratch"
}
trap end EXIT
cat "$here"/docs/*.md > "$scratch/text"
"$(dirname "$new")/../launcher/par" data --tokenizer bytes --out "$scratch/tokens.bin" --text \
    "$scratch/text" > /dev/null

small="--vocab 256"
shape124="--model gpt2-124m --layers 2 --vocab 8192 --tokens 128 --batch 2 --micro-batch 2"

middle() { # COLUMN FILE: median, least, most
    cut -d' ' -f"$1" "$2" | sort -n | awk '{ x[NR] = $1 } END {
        printf "%.4g (%.4g to %.4g)",
            NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2, x[1], x[NR] }'
}

# The fastest or the median step in ms without the first two; a run that takes more than 1 minute is
# an error.
run() { # PROGRAM OPTIONS...
    if [ "$1" = embedded ]; then
        mpirun $mpirun_flags -n 4 timeout -s KILL 60 "$(dirname "$new")/../benchmarks/embedded" \
            "${@:2}"
        return
    fi
    local launch=${launch:-}
    if [ "$1" = two ]; then
        launch="mpirun $mpirun_flags -n 2 env OMP_NUM_THREADS=1"
        set -- "$new" "${@:2}"
    fi
    timeout -s KILL 60 env -C "$scratch" $launch "$1" --data "$scratch/tokens.bin" \
        --dropout 0 --split 0 --warmup 0 --sample-tokens 0 \
        --steps $((steps + 2)) "${@:2}" > "$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
    sed -nE 's/^step ([0-9]+)\/.* \| ([0-9.]+) ms .*/\1 \2/p' "$scratch/log" |
        awk '$1 > 2 { print $2 }' | sort -n |
        awk -v fastest="${fastest:-}" \
        '{ x[NR] = $1 } END { print fastest ? x[1] : x[int((NR + 1) / 2)] }'
}

pairs() { # LABEL OLD_PROGRAM OLD_OPTIONS NEW_PROGRAM NEW_OPTIONS
    local label=$1 first second
    : > "$scratch/pairs"
    for round in $(seq "$rounds"); do
        if [ $((round % 2)) = 0 ]; then
            first=$(run "$2" $3)
            second=$(run "$4" $5)
        else
            second=$(run "$4" $5)
            first=$(run "$2" $3)
        fi
        awk -v a="$first" -v b="$second" 'BEGIN { print a, b, b / a }' >> "$scratch/pairs"
    done
    printf '%-36s old %s ms | new %s ms | new / old %s\n' "$label" "$(middle 1 "$scratch/pairs")" \
        "$(middle 2 "$scratch/pairs")" "$(middle 3 "$scratch/pairs")"
}

echo "# $(sed -n 's/^model name.*: //p' /proc/cpuinfo |
    head -1), $(nproc) cores; $rounds rounds of $steps steps; load $(cut -d' ' -f1-3 /proc/loadavg)"
for what in $cases; do
    case $what in
    idle)
        for threads in 1 2; do
            export OMP_NUM_THREADS=$threads fastest=1
            for precision in fp32 bf16; do
                options="--threads $threads --precision $precision"
                pairs "124M's shape, $precision, $threads threads" "$old" "$shape124 $options" \
                    "$new" "$shape124 $options"
            done
            pairs "small, fp32, $threads threads" "$old" "$small --threads $threads" "$new" \
                "$small --threads $threads"
        done
        unset OMP_NUM_THREADS fastest
        ;;
    beside)
        for _ in 1 2; do
            sh -c 'while :; do :; done' &
            loops="$loops $!"
        done
        for precision in fp32 bf16; do
            pairs "beside 2 loops, small, $precision: 1, 2" "$new" \
                "$small --threads 1 --precision $precision" \
                "$new" "$small --threads 2 --precision $precision"
            pairs "beside 2 loops, 124M's, $precision: 1, 2" "$new" \
                "$shape124 --threads 1 --precision $precision" \
                "$new" "$shape124 --threads 2 --precision $precision"
        done
        for loop in $loops; do kill "$loop"; done
        loops=
        ;;
    layouts)
        # shellcheck source=/dev/null
        . "$here/scripts/mpi.sh"
        export OMP_NUM_THREADS=1 fastest=1
        launch="mpirun $mpirun_flags -n 2"
        for layout in "--dp 2" "--dp 2 --zero 1" "--tp 2" "--pp 2"; do
            options="$small --threads 1 $layout"
            pairs "2 ranks, small, fp32: $layout" "$old" "$options" "$new" "$options"
        done
        unset launch OMP_NUM_THREADS fastest
        ;;
    split)
        # shellcheck source=/dev/null
        . "$here/scripts/mpi.sh"
        fastest=1
        for layout in "--dp 2" "--tp 2" "--pp 2"; do
            pairs "1 rank of 2 threads, $layout of 1" "$new" "$small --threads 2" \
                two "$small --threads 1 $layout"
        done
        unset fastest
        ;;
    ranks)
        # shellcheck source=/dev/null
        . "$here/scripts/mpi.sh"
        pairs "embedded, 4 ranks: 1 thread, default" embedded 1 embedded ""
        ;;
    esac
done
