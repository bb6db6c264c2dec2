/*
 * Fuzz target: the safetensors parser, and the import of one file as a tiny GPT-2. Every byte of
 * every accepted tensor is read; accepted tensors must cover the data exactly.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/import/directory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int accepted, imported; /* files, for a driver that wants to see that its seeds are sound */

static size_t read_tensors(const par_safetensors *file) {
    static volatile uint8_t sink;
    size_t sum = 0;
    for (int i = 0; i < par_safetensors_n(file); i++) {
        par_tensor t;
        const par__st_entry *e = &file->entries[i];
        for (size_t k = e->begin; k < e->end; k++) sink = (uint8_t)(sink ^ file->data[k]);
        sum += e->end - e->begin;
        if (par_safetensors_get(file, par_safetensors_name(file, i), &t) == PAR_OK &&
            par_tensor_nbytes(&t) != e->end - e->begin)
            abort();
        par_safetensors_get(file, "absent", &t);
    }
    return sum;
}

static void import_file(par_safetensors *file) {
    par_import import = {
        .directory = (char[]){"x"}, .family = par__families[0], .n_files = 1, .files = &file};
    import.config = (par_transformer_config){.vocab = 3,
                                             .positions = 2,
                                             .layers = 1,
                                             .channels = 2,
                                             .heads = 1,
                                             .kv_heads = 1,
                                             .head_size = 2,
                                             .mlp = 2,
                                             .tied = true};
    if (par__import_check(&import) != PAR_OK) return;
    imported++;
    for (int i = 0; i < import.family->n; i++) {
        const par__mapping *m = &import.family->table[i];
        float dst[16];
        par_param p = {.ndim = m->cols == PAR__DIM_ONE ? 1 : 2};
        p.global[0] = p.extent[0] = p.local[0] = par__dim_size(&import.config, m->rows);
        p.global[1] = p.extent[1] = p.local[1] = par__dim_size(&import.config, m->cols);
        par__name_make(p.name, sizeof p.name, "", m->name, 0);
        par_status st = par_import_read(&import, &p, dst);
        if (st != PAR_OK && m->when == PAR__ALWAYS && !strstr(par_error(), "legal: finite"))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t header;
    int found = -1;
    par_safetensors *file = NULL;
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    if (par__safetensors_parse("x.safetensors", copy, size, &file) == PAR_OK) {
        memcpy(&header, copy, 8);
        accepted++;
        found = 0;
        if (read_tensors(file) + header + 8 != size) abort();
        import_file(file);
        par_safetensors_close(&file);
    }
    free(copy);
    return found;
}
