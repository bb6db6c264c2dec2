/* The communication matrix as CSV. */
#include <inttypes.h>
#include <stdio.h>

#include "libpar/base/file.h"
#include "par/matrix.h"

par_status par_matrix_write_csv(const par_matrix *m, const char *path) {
    static const char head[] = "axis,purpose,from,to,counted,predicted,messages,logical,wait_s\n";
    char text[320];
    par__writer writer;
    PAR_REQUIRE(m && path);
    PAR_TRY(par__writer_open(path, &writer));
    par_status st = par__writer_write(&writer, head, sizeof head - 1);
    for (int i = 0; i < m->n; i++) {
        const par_matrix_line *line = &m->lines[i];
        for (int64_t k = 0; st == PAR_OK && k < line->n; k++) {
            const par_matrix_cell *c = &line->cells[k];
            int n = snprintf(text, sizeof text,
                             "%s,%s,%d,%d,%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%.6g\n",
                             line->axis, line->purpose, (int)c->from, (int)c->to, c->nbytes,
                             c->predicted_nbytes, c->n_messages, c->logical_nbytes, c->wait_s);
            st = par__writer_write(&writer, text, (size_t)n);
        }
    }
    if (st == PAR_OK) return par__writer_commit(&writer);
    par__writer_abort(&writer);
    return st;
}
