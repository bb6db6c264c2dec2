/*
 * A branch's rows in pieces, so that forward's communication over tp runs under its products. With
 * sequence parallel the product of own rows runs while the first piece is gathered, and that of a
 * piece while the next one is; on the way out a piece is summed while the next one's product runs.
 * The additions of an element are those of whole rows, in the same order.
 *
 * Piece i of own rows has rows [b, b + n) of every rank. A collective wants what it moves without
 * gaps, so in an area the pieces lie behind each other: that of rank j from row p · b + j · n on.
 */
#include "layers.h"

static char *at_row(const par__module_place *place, const void *x, int64_t row, int64_t width) {
    return (char *)(uintptr_t)x + par__module_place_nbytes(place, row * width);
}

/* Piece i of n rows. */
static int64_t piece(const par__module_place *place, int64_t n, int i, int64_t *begin) {
    *begin = par__piece_begin(place, n, i);
    return par__piece_begin(place, n, i + 1) - *begin;
}

/* Products of m rows: both ways with sequence parallel, else the way out alone is in pieces. */
static par_status prepare_rows(const par__branch *branch, par__module_place *place,
                               par_build *build, int64_t m, bool *fused) {
    bool has = false;
    PAR_TRY(par__linear_prepare_forward(&branch->out, place, build, m));
    if (!place->sequence_parallel) return PAR_OK;
    PAR_TRY(par__linear_prepare_forward(&branch->in, place, build, m));
    if (!fused || !*fused) return PAR_OK;
    PAR_TRY(par__linear_prepare_gelu(&branch->in, &branch->out, place, build, m, &has));
    *fused = has;
    return PAR_OK;
}

par_status par__branch_prepare_pieces(const par__branch *branch, par__module_place *place,
                                      par_build *build, bool *fused) {
    if (place->pieces == 1) return PAR_OK;
    int64_t least = place->rows / place->pieces, rest = place->rows % place->pieces;
    if (place->sequence_parallel) PAR_TRY(prepare_rows(branch, place, build, place->rows, fused));
    if (least > 0) PAR_TRY(prepare_rows(branch, place, build, least, fused));
    return rest > 0 ? prepare_rows(branch, place, build, least + 1, fused) : PAR_OK;
}

/* Rows [row, row + m) of the way in, from h [m, C]. */
static par_status input_rows(const par__branch *branch, const par__module_place *place,
                             const par_call *call, int64_t row, int64_t m, const void *h, void *y,
                             void *a) {
    int64_t out = branch->in.out;
    if (!a) return par__linear_forward_rows(&branch->in, place, call, row, m, h, y);
    return par__linear_forward_gelu(&branch->in, place, call, m, h, at_row(place, y, row, out),
                                    at_row(place, a, row, out));
}

par_status par__branch_input_pieces(const par__branch *branch, const par__module_place *place,
                                    const par_call *call, const par_residual *sum, const void *x,
                                    void *y, void *a) {
    par_work works[PAR_MAX_TP_PIECES] = {{0}};
    par_tag tag = par__tag(place, call, "activations forward");
    const void *own = NULL;
    void *h = par__full(place, call, 0);
    int64_t C = place->C, begin, n;
    PAR_TRY(par__norm_forward_own(&branch->norm, place, call, sum, x, 1, &own));
    for (int i = 0; i < place->pieces; i++)
        if ((n = piece(place, place->rows, i, &begin)) > 0)
            PAR_TRY(par_comm_all_gather(place->tp, at_row(place, own, begin, C),
                                        at_row(place, h, place->p * begin, C), n * C, place->dtype,
                                        tag, call->stream, &works[i]));
    PAR_TRY(input_rows(branch, place, call, place->first_row, place->rows, own, y, a));
    for (int i = 0; i < place->pieces; i++) {
        n = piece(place, place->rows, i, &begin);
        PAR_TRY(par_work_wait(works[i], call->stream));
        for (int j = 0; n > 0 && j < place->p; j++) /* of a piece [p, n, C] the other ranks' rows */
            if (j != place->r)
                PAR_TRY(input_rows(branch, place, call, j * place->rows + begin, n,
                                   at_row(place, h, place->p * begin + j * n, C), y, a));
    }
    return PAR_OK;
}

/* Piece i of own rows, of every rank: the products, then the sum under way into `own`. */
static par_status output_own(const par__branch *branch, const par__module_place *place,
                             const par_call *call, int i, const void *o, void *own,
                             par_work *work) {
    int64_t C = place->C, begin, n = piece(place, place->rows, i, &begin);
    char *p = at_row(place, par__full(place, call, 0), place->p * begin, C);
    if (n == 0) return PAR_OK;
    for (int j = 0; j < place->p; j++)
        PAR_TRY(par__linear_forward(&branch->out, place, call, n,
                                    at_row(place, o, j * place->rows + begin, branch->out.in),
                                    at_row(place, p, j * n, C)));
    return par_comm_reduce_scatter(place->tp, p, at_row(place, own, begin, C), n * C, place->dtype,
                                   par__tag(place, call, "activations forward"), call->stream,
                                   work);
}

/* Piece i of all rows: the product, then the sum under way in place. */
static par_status output_all(const par__branch *branch, const par__module_place *place,
                             const par_call *call, int i, const void *o, void *full,
                             par_work *work) {
    int64_t C = place->C, begin, n = piece(place, place->N, i, &begin);
    char *p = at_row(place, full, begin, C);
    if (n == 0) return PAR_OK;
    PAR_TRY(par__linear_forward(&branch->out, place, call, n,
                                at_row(place, o, begin, branch->out.in), p));
    return par_comm_all_reduce(place->tp, p, p, n * C, place->dtype,
                               par__tag(place, call, "activations forward"), call->stream, work);
}

par_status par__branch_output_pieces(const par__branch *branch, const par__module_place *place,
                                     const par_call *call, const void *o, const void **own) {
    par_work works[PAR_MAX_TP_PIECES] = {{0}};
    void *sum = par__full(place, call, place->sequence_parallel ? 1 : 0);
    for (int i = 0; i < place->pieces; i++)
        PAR_TRY((place->sequence_parallel ? output_own : output_all)(branch, place, call, i, o, sum,
                                                                     &works[i]));
    for (int i = 0; i < place->pieces; i++) PAR_TRY(par_work_wait(works[i], call->stream));
    *own = sum;
    return PAR_OK;
}
