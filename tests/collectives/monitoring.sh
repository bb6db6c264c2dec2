#!/bin/sh
# The recorder's bytes per peer against those of Open MPI's monitoring component, which counts below us, in the PML. Its
# "E" lines are messages of the program, its "I" lines MPI's own. usage: monitoring.sh [PROGRAM], from the checkout.
program=${1:-build/tests/collectives/collectives-monitoring}
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
if ! [ -x "$program" ]; then
    echo "skip monitoring/recorder: $program is not built"
    exit 0
fi
if ! ompi_info 2>/dev/null | grep -q "MCA pml: monitoring"; then
    echo "skip monitoring/recorder: this MPI has no monitoring component"
    exit 0
fi
status=0
for n in 2 4 8; do
    if ! mpirun --oversubscribe --bind-to none -n $n --mca pml_monitoring_enable 2 --mca pml_monitoring_enable_output 3 \
        --mca pml_monitoring_filename "$folder/mpi$n" "$program" "$folder/par$n" >"$folder/log" 2>&1; then
        echo "FAIL monitoring/recorder_$n: $(tail -n 3 "$folder/log" | tr '\n' ' ')"
        status=1
        continue
    fi
    cat "$folder/par$n".* | sort >"$folder/par"
    # columns: E, from, to, bytes, "bytes", ...
    cat "$folder/mpi$n".*.prof | awk '$1 == "E" && $4 > 0 { print $2, $3, $4 }' | sort >"$folder/mpi"
    if ! [ -s "$folder/par" ]; then
        echo "FAIL monitoring/recorder_$n: nothing was counted"
        status=1
    elif diff "$folder/par" "$folder/mpi" >"$folder/diff"; then
        echo "ok monitoring/recorder_$n ($(wc -l <"$folder/par") pairs of ranks)"
    else
        echo "FAIL monitoring/recorder_$n: recorder (<) and Open MPI (>) differ: $(head -n 4 "$folder/diff" | tr '\n' ' ')"
        status=1
    fi
done
exit $status
