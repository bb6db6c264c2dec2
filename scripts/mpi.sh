# How programs are started on one machine for tests and the quickstart: more ranks than cores, no binding, root allowed.

mpirun_flags="--oversubscribe --bind-to none"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
