/*
 * Layouts without ranks: coordinates, groups and messages, and a mesh seen from every rank of
 * measured worlds. (Meshes on real ranks: order.c.)
 */
#include <string.h>

#include "harness.h"
#include "par/mesh.h"

static const char *const orders[] = {"tp-cp-dp-pp", "pp-dp-cp-tp", "dp-tp-pp-cp", "cp-pp-tp-dp"};

static par_layout layout_of(int tp, int dp, int pp, const char *order) {
    par_layout layout = {.size = {tp, 0, dp, pp}};
    CHECK_OK(par_layout_parse_order(order, layout.order));
    return layout;
}

static par_mesh *mesh_at(const par_layout *layout, int size, int rank, par_transport **t) {
    par_mesh *mesh = NULL;
    CHECK_OK(par_transport_create_measuring(NULL, size, rank, t));
    CHECK_OK(par_mesh_create(*t, layout, NULL, NULL, &mesh));
    return mesh;
}

static void check_identity(const par_layout *layout, int size) {
    for (int rank = 0; rank < size; rank++) {
        int c[PAR_AXIS_COUNT];
        par_layout_coordinates(layout, rank, c);
        for (int i = 0; i < PAR_AXIS_COUNT; i++)
            CHECK(c[i] >= 0 && c[i] < (layout->size[i] ? layout->size[i] : 1),
                  "coordinate %d of rank %d", i, rank);
        CHECK(par_layout_rank(layout, c) == rank, "rank %d does not come back", rank);
    }
}

/* Members differ along the axis only, in order of that coordinate: groups are then disjoint and
 * complete. */
static void check_group(const par_mesh *mesh, par_axis axis) {
    const par_comm *comm = mesh->axis[axis];
    CHECK(par_comm_size(comm) == mesh->layout.size[axis], "%s has %d ranks", par_axis_name(axis),
          par_comm_size(comm));
    CHECK(par_comm_rank(comm) == mesh->coordinate[axis], "%s rank %d", par_axis_name(axis),
          par_comm_rank(comm));
    for (int i = 0; i < par_comm_size(comm); i++) {
        int c[PAR_AXIS_COUNT];
        par_layout_coordinates(&mesh->layout, par_comm_world_rank(comm, i), c);
        for (int k = 0; k < PAR_AXIS_COUNT; k++)
            CHECK(c[k] == (k == (int)axis ? i : mesh->coordinate[k]), "%s member %d of rank %d",
                  par_axis_name(axis), i, mesh->rank);
    }
}

static void check_kv_and_tied(const par_mesh *mesh) {
    const int *size = mesh->layout.size, *c = mesh->coordinate;
    int n = mesh->layout.kv_replicas;
    CHECK(par_comm_size(mesh->kv) == n && par_comm_rank(mesh->kv) == c[PAR_TP] % n, "kv group");
    for (int i = 0; i < n; i++)
        CHECK(par_comm_world_rank(mesh->kv, i) ==
                  par_comm_world_rank(mesh->axis[PAR_TP], c[PAR_TP] / n * n + i),
              "kv member %d", i);
    bool end = size[PAR_PP] > 1 && (c[PAR_PP] == 0 || c[PAR_PP] == size[PAR_PP] - 1);
    CHECK((mesh->tied != NULL) == end, "tied group of rank %d", mesh->rank);
    for (int i = 0; end && i < 2; i++)
        CHECK(par_comm_world_rank(mesh->tied, i) ==
                  par_comm_world_rank(mesh->axis[PAR_PP], i ? size[PAR_PP] - 1 : 0),
              "tied member %d", i);
}

static void check_layout(int tp, int dp, int pp, const char *order, int kv) {
    par_layout layout = layout_of(tp, dp, pp, order);
    layout.kv_replicas = kv;
    check_identity(&layout, tp * dp * pp);
    for (int rank = 0; rank < tp * dp * pp; rank++) {
        par_transport *t = NULL;
        par_mesh *mesh = mesh_at(&layout, tp * dp * pp, rank, &t);
        if (mesh) {
            for (int axis = 0; axis < PAR_AXIS_COUNT; axis++) check_group(mesh, (par_axis)axis);
            check_kv_and_tied(mesh);
            CHECK(par_comm_size(mesh->world) == mesh->size && par_comm_rank(mesh->world) == rank,
                  "world");
        }
        par_mesh_destroy(&mesh);
        par_transport_destroy(&t);
    }
}

static void layouts_of_8(void) {
    for (int o = 0; o < 4; o++)
        for (int tp = 1; tp <= 8; tp *= 2)
            for (int dp = 1; tp * dp <= 8; dp *= 2)
                for (int kv = 1; kv <= tp; kv *= 2)
                    check_layout(tp, dp, 8 / tp / dp, orders[o], kv);
}

static void odd_layouts(void) {
    check_layout(3, 2, 2, orders[0], 3);
    check_layout(1, 5, 3, orders[1], 1);
    check_layout(6, 1, 7, orders[2], 2);
}

static void tp_is_fastest(void) {
    par_layout layout = {.size = {2, 1, 4, 8}};
    int c[PAR_AXIS_COUNT] = {1, 0, 3, 5};
    CHECK(par_layout_rank(&layout, c) == 1 + 2 * 3 + 8 * 5, "rank is %d",
          par_layout_rank(&layout, c));
}

static void order_text(void) {
    static const char *const illegal[] = {
        "", "tp", "tp-cp-dp", "tp-cp-dp-dp", "tp-cp-dp-pp-", "tp,cp,dp,pp", "tp-cp-dp-xx"};
    par_axis order[PAR_AXIS_COUNT] = {PAR_DP, PAR_DP, PAR_DP, PAR_DP};
    for (int i = 0; i < 7; i++)
        CHECK_FAILS(par_layout_parse_order(illegal[i], order), PAR_ERR_OPTION, "tp-cp-dp-pp");
    CHECK(order[0] == PAR_DP, "a refused text changed the order");
}

static void check_message(par_layout layout, int world_size, int n, const char *text) {
    par_problems problems = {0};
    par_layout_check(&layout, world_size, &problems);
    CHECK(problems.n == n && strstr(problems.text, text), "%d problems, \"%s\" lacks \"%s\"",
          problems.n, problems.text, text);
}

static void messages(void) {
    check_message((par_layout){.size = {2, 1, 2, 2}}, 8, 0, "");
    check_message((par_layout){.size = {2, 1, 8, 2}}, 16, 1, "dp would have to be 4");
    check_message((par_layout){.size = {2, 1, 8, 2}}, 16, 1, "start 32 ranks");
    check_message((par_layout){.size = {3, 1, 1, 5}}, 8, 1, "no change of one size helps");
    check_message((par_layout){.size = {2, 1, 2, 2}}, 1, 1, "have not found each other");
    check_message((par_layout){.size = {2, 1, 2, 2}}, 1, 1, "--mpi=pmix");
    check_message((par_layout){.size = {1, 2, 1, 1}}, 2, 1, "only 1 is possible");
    check_message((par_layout){.size = {-1, 2, 0, -3}}, 2, 3, "pp is -3; it must be at least 1");
    check_message((par_layout){.size = {6, 1, 1, 1}, .kv_replicas = 4}, 6, 1, "1, 2, 3, 6");
    check_message((par_layout){.size = {2, 1, 1, 1}, .order = {PAR_TP, PAR_DP, PAR_DP, PAR_PP}}, 2,
                  1, "once each");
    check_message((par_layout){.size = {2000000000, 1, 2000000000, 2000000000}}, 8, 1, "start");
}

static void refused(void) {
    par_transport *t = NULL;
    par_mesh *mesh = NULL;
    float x = 1;
    const par_tag tag = {"test", -1, -1, -1};
    par_layout layout = {.size = {2, 1, 2, 1}};
    CHECK_OK(par_transport_create_measuring(NULL, 8, 3, &t));
    CHECK_FAILS(par_mesh_create(t, &layout, NULL, NULL, &mesh), PAR_ERR_LAYOUT,
                "dp would have to be 4");
    layout.size[PAR_DP] = 4;
    CHECK_OK(par_mesh_create(t, &layout, NULL, NULL, &mesh));
    CHECK_FAILS(par_comm_all_reduce(mesh->world, &x, &x, 1, PAR_F32, tag, NULL, NULL),
                PAR_ERR_INTERNAL, "measures");
    par_mesh_destroy(&mesh);
    par_transport_destroy(&t);
}

/* The plan of a rank and the rank itself take the same staging. */
static void staging(void) {
    par_layout layout = {.size = {2, 1, 2, 2}};
    size_t nbytes[2];
    for (int k = 0; k < 2; k++) {
        par_transport *t = NULL;
        par_memory *memory = NULL;
        par_mesh *mesh = NULL;
        CHECK_OK(par_transport_create_measuring(NULL, 8, 7 * k, &t));
        CHECK_OK(par_memory_create_measuring(&memory));
        CHECK_OK(par_mesh_create(t, &layout, NULL, memory, &mesh));
        nbytes[k] = par_memory_nbytes(memory, PAR_MEM_COMM);
        par_mesh_destroy(&mesh);
        par_memory_destroy(&memory);
        par_transport_destroy(&t);
    }
    CHECK(nbytes[0] == nbytes[1] && nbytes[0] > 0 && nbytes[0] < (16u << 20),
          "staging is %zu and %zu bytes", nbytes[0], nbytes[1]);
}

static void count_line(void *user, const char *line) {
    int *lines = user;
    CHECK(strlen(line) > 30, "line \"%s\"", line);
    ++*lines;
}

static void one_rank(void) {
    par_transport *t = NULL;
    par_mesh *mesh = NULL;
    par_layout layout = {.size = {0}};
    float x[3] = {1, 2, 3}, y[3] = {0, 0, 0};
    int lines = 0;
    const par_tag tag = {"test", -1, -1, -1};
    par_work work = {NULL, 0};
    CHECK_OK(par_work_wait(work, NULL));
    CHECK_OK(par_transport_create_self(NULL, &t));
    CHECK_OK(par_mesh_create(t, &layout, NULL, NULL, &mesh));
    CHECK_OK(par_comm_all_reduce(mesh->axis[PAR_TP], x, y, 3, PAR_F32, tag, NULL, &work));
    CHECK(par_work_done(work) && y[2] == 3, "a group of one did not end at once");
    CHECK_OK(par_comm_barrier(mesh->world, tag));
    CHECK_FAILS(par_comm_agree(mesh->world, par_error_set(PAR_ERR_IO, "own")), PAR_ERR_IO, "own");
    CHECK_OK(par_mesh_print(mesh, count_line, &lines));
    CHECK(lines == 2, "the table has %d lines", lines);
    par_mesh_destroy(&mesh);
    par_transport_destroy(&t);
}

static const harness_case cases[] = {
    {"layouts_of_8", .run = layouts_of_8},
    {"odd_layouts", .run = odd_layouts},
    {"tp_is_fastest", .run = tp_is_fastest},
    {"order_text", .run = order_text},
    {"messages", .run = messages},
    {"refused", .run = refused},
    {"staging", .run = staging},
    {"one_rank", .run = one_rank},
};

int main(int argc, char **argv) {
    return harness_main("mesh", cases, HARNESS_COUNT(cases), argc, argv);
}
