/* The communication matrix as CSV. */
#include <inttypes.h>
#include <stdio.h>

#include "libpar/base/file.h"
#include "par/matrix.h"

static par_status write_cells(const par_matrix_line *line, par__writer *writer) {
    char text[320];
    for (int64_t i = 0; i < line->n; i++) {
        const par_matrix_cell *c = &line->cells[i];
        int n = snprintf(text, sizeof text,
                         "%s,%s,%d,%d,%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%.6g\n",
                         line->axis, line->purpose, (int)c->from, (int)c->to, c->nbytes,
                         c->predicted_nbytes, c->n_messages, c->logical_nbytes, c->wait_s);
        PAR_TRY(par__writer_write(writer, text, (size_t)n));
    }
    return PAR_OK;
}

par_status par_matrix_write_csv(const par_matrix *m, const char *path) {
    static const char head[] = "axis,purpose,from,to,counted,predicted,messages,logical,wait_s\n";
    par__writer writer;
    PAR_REQUIRE(m && path);
    PAR_TRY(par__writer_open(path, &writer));
    par_status st = par__writer_write(&writer, head, sizeof head - 1);
    for (int i = 0; st == PAR_OK && i < m->n; i++) st = write_cells(&m->lines[i], &writer);
    if (st == PAR_OK) return par__writer_commit(&writer);
    par__writer_abort(&writer);
    return st;
}
