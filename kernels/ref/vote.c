/* The vote's two operations (par_tally, par_vote_call in par/kernels.h), for every backend whose
 * memory is the host's. */
#include "kernels/vote.h"

#include "kernels/ref/ref.h"

par_status par__ref_ballot(par_stream *stream, const par_tally *a, void *workspace) {
    par__ballot_fill(a);
    return PAR_OK;
}

par_status par__ref_vote(par_stream *stream, const par_vote_call *a, void *workspace) {
    par__vote_decide(a);
    return PAR_OK;
}
