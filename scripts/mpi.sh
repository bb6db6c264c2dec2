# How programs are started on one machine for tests and the quickstart: more ranks than cores, no
# binding, root allowed. Sets mpi_kind, openmpi or mpich (Hydra, which Intel MPI and MVAPICH have
# too), mpirun_flags, and mpirun_keep: flags by which a rank that ends with an exit code of its own
# does not end the others; mpirun_stop, a signal to mpirun by which all ranks save and end;
# mpirun_kill, one that ends them at once.

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mpi_flags() {
    case "$(mpirun --version 2>/dev/null)" in
    *HYDRA* | *Intel*)
        mpi_kind=mpich mpirun_flags="-bind-to none"
        mpirun_keep=-disable-auto-cleanup mpirun_stop=TERM mpirun_kill=KILL
        ;;
    *)
        mpi_kind=openmpi mpirun_flags="--oversubscribe --bind-to none"
        mpirun_keep="--mca orte_abort_on_non_zero_status 0" mpirun_stop=USR2 mpirun_kill=TERM
        ;;
    esac
}

# mpi_for PROGRAM FOLDER: `mpirun` is from now on the launcher of the MPI that the program is linked
# with, also where several are installed: then by a script in FOLDER, in front of PATH. Started by
# another MPI's, ranks never find each other. mpirun_name is what a user types.
mpi_for() {
    local name names=''
    mpirun_name=mpirun
    case $(ldd "$1" 2>/dev/null) in
    *libmpich.so* | *libmpi.so.12*) names="mpirun.mpich mpiexec.hydra" ;;
    *libmpi.so*) names=mpirun.openmpi ;;
    esac
    for name in $names; do
        command -v "$name" >/dev/null || continue
        [ "$(readlink -f "$(command -v "$name")")" != "$(readlink -f "$(command -v mpirun)")" ] ||
            break
        mkdir -p "$2"
        printf '#!/bin/sh\nexec %s "$@"\n' "$(command -v "$name")" >"$2/mpirun"
        chmod +x "$2/mpirun"
        PATH=$2:$PATH mpirun_name=$name
        break
    done
    mpi_flags
}
mpi_flags
