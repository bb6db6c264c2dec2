/*
 * Bad nodes are found in figures where they were planted, and nowhere else; what is measured here
 * is possible.
 */
#include <stdio.h>
#include <string.h>

#include "../harness.h"
#include "libpar/observe/nodes.h"

enum { RANKS = 6, PAIRS = RANKS * (RANKS - 1) / 2 };

typedef struct {
    char text[1 << 14];
} output;

static void keep(void *user, const char *line) {
    output *out = user;
    size_t n = strlen(out->text);
    snprintf(out->text + n, sizeof out->text - n, "%s\n", line);
}

/* Two hosts of three ranks, all good, but for some per cent. */
static void fill(par_node_check *c, par_pair_speed pairs[PAIRS]) {
    int n = 0;
    for (int r = 0; r < RANKS; r++) {
        snprintf(c->hosts[r], sizeof c->hosts[r], "node%d", r / 3);
        c->ranks[r][PAR_NODE_PRODUCTS] = 1e12 * (1 + 0.02 * r);
        c->ranks[r][PAR_NODE_MEMORY] = 1e10 * (1 - 0.02 * r);
        for (int k = r + 1; k < RANKS; k++) {
            bool near = r / 3 == k / 3;
            pairs[n++] = (par_pair_speed){.a = r,
                                          .b = k,
                                          .latency_s = near ? 1e-6 : 1e-5,
                                          .bytes_s = near ? 1e11 : 1e10 * (1 + 0.1 * r)};
        }
    }
}

static void judged(void) {
    par_node_check *c = NULL;
    par_pair_speed pairs[PAIRS];
    static output out;
    CHECK_OK(par__node_check_create(RANKS, &c));
    fill(c, pairs);
    CHECK_OK(par__node_check_judge(c, pairs, PAIRS));
    CHECK(c->n_faults == 0, "%d faults of good nodes, the first is rank %d's", c->n_faults,
          c->faults[0].rank);
    par_node_check_destroy(&c);

    /* rank 4 multiplies slowly, rank 1's adapter is slow, and one pair is late */
    CHECK_OK(par__node_check_create(RANKS, &c));
    fill(c, pairs);
    c->ranks[4][PAR_NODE_PRODUCTS] /= 2;
    for (int i = 0; i < PAIRS; i++) {
        if (pairs[i].a == 1 || pairs[i].b == 1) pairs[i].bytes_s /= 4;
        if (pairs[i].a == 2 && pairs[i].b == 5) pairs[i].latency_s *= 20;
    }
    CHECK_OK(par__node_check_judge(c, pairs, PAIRS));
    CHECK(c->n_faults == 3, "%d faults", c->n_faults);
    par_node_check_print(c, keep, &out);
    CHECK(strstr(out.text, "rank 4 on node1: products 540.0 GFLOP/s") &&
              strstr(out.text, "rank 1 on node0: messages ") &&
              strstr(out.text, "ranks 2 on node0 and 5 on node1: latency 200.0 us, where 10.0 us"),
          "%s", out.text);
    par_node_check_destroy(&c);
}

/* Of two ranks the one that is slow is at fault, whichever it is. */
static void judged_two(void) {
    for (int bad = 0; bad < 2; bad++) {
        par_node_check *c = NULL;
        const par_pair_speed pair = {.b = 1, .latency_s = 1e-6, .bytes_s = 1e10};
        CHECK_OK(par__node_check_create(2, &c));
        for (int r = 0; r < 2; r++) {
            c->ranks[r][PAR_NODE_PRODUCTS] = r == bad ? 1e11 : 1e12;
            c->ranks[r][PAR_NODE_MEMORY] = 1e10;
        }
        CHECK_OK(par__node_check_judge(c, &pair, 1));
        CHECK(c->n_faults == 1 && c->faults[0].rank == bad &&
                  c->faults[0].figure == PAR_NODE_PRODUCTS,
              "%d faults where rank %d is slow", c->n_faults, bad);
        par_node_check_destroy(&c);
    }
}

static void measured(par_transport *transport) {
    const par_backend *backend = NULL;
    par_node_check *c = NULL;
    CHECK_OK(par_backend_get("cpu", &backend));
    CHECK_OK(par_nodes_check(transport, backend, PAR_F32, &c));
    CHECK(!c == (par_transport_rank(transport) != 0), "who has the figures");
    for (int r = 0; c && r < c->n_ranks; r++) {
        const double *f = c->ranks[r];
        CHECK(f[PAR_NODE_PRODUCTS] > 1e6 && f[PAR_NODE_PRODUCTS] < 1e14, "rank %d: %g FLOP/s", r,
              f[PAR_NODE_PRODUCTS]);
        CHECK(f[PAR_NODE_MEMORY] > 1e6 && f[PAR_NODE_MEMORY] < 1e13, "rank %d: %g bytes/s", r,
              f[PAR_NODE_MEMORY]);
        CHECK(f[PAR_NODE_MESSAGES] > 1e5 && f[PAR_NODE_LATENCY] > 0, "rank %d: messages", r);
        CHECK(*c->hosts[r], "rank %d has no host", r);
    }
    par_node_check_destroy(&c);
}

static void judged_on_rank_0(par_transport *transport) {
    if (par_transport_rank(transport) == 0) {
        judged();
        judged_two();
    }
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"judged", NULL, 1, judged_on_rank_0, 0},
                                         {"measured", NULL, 4, measured, 0}};
    return harness_main_mpi("nodes", cases, HARNESS_COUNT(cases), argc, argv);
}
