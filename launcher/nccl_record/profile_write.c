/* What the profiler told, as part of the process's file: docs/diagnostics.md describes it. */
#include "profile.h"

#define NUMBER(name, value) fprintf(out, "\"%s\": %llu, ", name, (unsigned long long)(value))

static void put_row(FILE *out, const profile_row *r) {
    fputs("\n    {", out);
    record_put_text(out, "op", record_op_name(r->op));
    record_put_text(out, "type", record_type_name(r->type));
    if (r->peer >= 0) NUMBER("peer", r->peer);
    record_put_text(out, "algorithm", r->algorithm);
    record_put_text(out, "protocol", r->protocol);
    NUMBER("channels", r->n_channels);
    NUMBER("calls", r->calls);
    NUMBER("nbytes", r->nbytes);
    NUMBER("timed", r->timed);
    fprintf(out, "\"seconds\": %.9f}", 1e-9 * (double)r->time_ns);
}

static void put_cell(FILE *out, const profile_cell *c) {
    fputs("\n    {", out);
    NUMBER("row", c->row);
    NUMBER("peer", c->peer);
    NUMBER("sent", c->sent);
    NUMBER("received", c->received);
    NUMBER("messages", c->n_sent);
    fprintf(out, "\"seconds\": %.9f}", 1e-9 * (double)c->send_ns);
}

static void put_comm(FILE *out, const profile_comm *c) {
    fputs("\n  {", out);
    record_put_text(out, "id", c->id);
    record_put_text(out, "name", c->name);
    fprintf(out, "\"size\": %d, \"rank\": %d, \"device\": %d, \"hosts\": %d, \"traffic\": [", c->n,
            c->rank, c->device, c->n_hosts);
    for (int i = 0; i < c->n_rows; i++) {
        if (i) fputc(',', out);
        put_row(out, &c->rows[i]);
    }
    fputs("], \"network\": [", out);
    for (int i = 0; i < c->n_cells; i++) {
        if (i) fputc(',', out);
        put_cell(out, &c->cells[i]);
    }
    fputs("]}", out);
}

void profile_put(FILE *out) {
    profile_lock();
    NUMBER("profile_lost", profile_lost);
    NUMBER("relayed", profile_relayed);
    fputs("\"profiled\": [", out);
    for (const profile_comm *c = profile_comms; c; c = c->next) {
        put_comm(out, c);
        if (c->next) fputc(',', out);
    }
    fputs("],\n ", out);
    profile_unlock();
}
