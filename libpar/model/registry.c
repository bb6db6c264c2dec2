/* The parameter registry: registration by modules, then one flat space with buckets in backward
 * order. */
#include "registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNIT_ALIGNMENT = 64 }; /* elements */

par_status par__registry_create(int n_chunks, int dp, int dp_rank, par_registry **out) {
    par_registry *registry = calloc(1, sizeof *registry);
    if (!registry) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the parameter registry");
    registry->n_chunks = n_chunks;
    registry->dp = dp;
    registry->dp_rank = dp_rank;
    *out = registry;
    return PAR_OK;
}

void par__registry_destroy(par_registry **handle) {
    par_registry *registry = *handle;
    if (!registry) return;
    for (int i = 0; i < registry->n_params; i++) free(registry->params[i]);
    free(registry->params);
    free(registry->unit);
    free(registry->sublayer);
    free(registry->buckets);
    free(registry->sums);
    free(registry);
    *handle = NULL;
}

static par_status grow(par_registry *registry) {
    int max = registry->max_params ? 2 * registry->max_params : 64;
    size_t n = (size_t)max;
    void *params = realloc(registry->params, n * sizeof *registry->params);
    if (params) registry->params = params;
    void *unit = realloc(registry->unit, n * sizeof *registry->unit);
    if (unit) registry->unit = unit;
    void *sublayer = realloc(registry->sublayer, n * sizeof *registry->sublayer);
    if (sublayer) registry->sublayer = sublayer;
    if (!params || !unit || !sublayer)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d parameters", max);
    registry->max_params = max;
    return PAR_OK;
}

static par_status check(const par_param *p) {
    if (p->name[0] == 0 || p->ndim < 1 || p->ndim > 2)
        PAR_FAIL(PAR_ERR_ARG, "parameter \"%s\" needs a name and 1 or 2 dimensions, has %d",
                 p->name, p->ndim);
    for (int d = 0; d < p->ndim; d++)
        if (p->global[d] < 1 || p->extent[d] < 0 || p->offset[d] < 0 ||
            p->offset[d] + p->extent[d] > p->global[d] || p->extent[d] > p->local[d])
            PAR_FAIL(PAR_ERR_ARG,
                     "parameter %s: dimension %d has [%lld, +%lld) of %lld in %lld local elements",
                     p->name, d, (long long)p->offset[d], (long long)p->extent[d],
                     (long long)p->global[d], (long long)p->local[d]);
    if (p->replica < 0 || p->replica >= p->n_replicas)
        PAR_FAIL(PAR_ERR_ARG, "parameter %s: replica %d of %d", p->name, p->replica, p->n_replicas);
    return PAR_OK;
}

par_status par_build_param(par_build *build, const par_param_spec *spec, bool adjacent,
                           par_param **out) {
    PAR_REQUIRE(build && spec && out);
    par_registry *registry = build->registry;
    int i = registry->n_params;
    for (int k = 0; k < i; k++) {
        par_param *p = registry->params[k];
        if (strcmp(p->name, spec->name) != 0) continue;
        if (memcmp(p->local, spec->local, sizeof p->local) != 0 && spec->local[0] != 0)
            PAR_FAIL(PAR_ERR_ARG, "parameter %s is registered twice with different shapes",
                     spec->name);
        p->tied = true;
        *out = p;
        return PAR_OK;
    }
    if (registry->n_params == registry->max_params) PAR_TRY(grow(registry));
    par_param *p = malloc(sizeof *p);
    if (!p) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for parameter %s", spec->name);
    *p = *spec;
    for (int d = 0; d < 2; d++) { /* by default one whole copy */
        if (d >= p->ndim) p->global[d] = p->extent[d] = p->local[d] = 1;
        if (p->local[d] == 0) {
            p->extent[d] = p->local[d] = p->global[d];
            p->offset[d] = 0;
        }
    }
    if (p->n_replicas == 0) p->n_replicas = 1;
    registry->params[registry->n_params++] = p; /* owned from here on, also when it is refused */
    PAR_TRY(check(p));
    p->chunk = build->chunk;
    p->dtype = build->dtype;
    registry->sublayer[i] = (int16_t)(registry->now_sublayer + build->sublayer);
    registry->unit[i] = i == 0 ? 0 : registry->unit[i - 1] + (adjacent ? 0 : 1);
    *out = p;
    return PAR_OK;
}

const char *par__param_layer(const char *name, char *layer, size_t nbytes) {
    size_t n = strcspn(name, ".");
    size_t digits = name[n] ? strspn(name + n + 1, "0123456789") : 0;
    if (digits && name[n + 1 + digits] == '.') n += 1 + digits;
    if (!name[n]) n = 0;
    snprintf(layer, nbytes, "%.*s", (int)n, name);
    return n ? name + n + 1 : name;
}

float par_grad_beta(par_param *param) {
    float beta = param->written ? 1.0f : 0.0f;
    param->written = true;
    return beta;
}

/* A unit: parameters [first, first + n) of the registry. */
typedef struct {
    int first, n;
    int16_t chunk, sublayer;
    par_comm *sum; /* of its first parameter */
    int64_t size;  /* elements, rounded up */
} unit;

static int collect_units(const par_registry *registry, unit *units) {
    int n = 0;
    for (int i = 0; i < registry->n_params; i++) {
        const par_param *p = registry->params[i];
        if (i == 0 || registry->unit[i] != registry->unit[i - 1]) {
            bool spans_stages = p->tied && p->sum;
            int16_t chunk = spans_stages ? -1 : p->chunk;
            units[n++] = (unit){
                .first = i, .chunk = chunk, .sublayer = registry->sublayer[i], .sum = p->sum};
        }
        units[n - 1].n++;
        units[n - 1].size += par__param_n(p);
    }
    for (int i = 0; i < n; i++)
        units[i].size = (units[i].size + UNIT_ALIGNMENT - 1) / UNIT_ALIGNMENT * UNIT_ALIGNMENT;
    return n;
}

/* Lengthen the range of the parameter laid out before if it has the same group, else begin one. */
static void add_sum(par_registry *registry, const par_param *p, const par_param *before) {
    if (!p->sum || par_comm_size(p->sum) == 1) return;
    if (before && before->sum == p->sum && before->bucket == p->bucket) {
        par__sum_range *last = &registry->sums[registry->n_sums - 1];
        last->n = p->flat + par__param_n(p) - last->begin;
        return;
    }
    registry->sums[registry->n_sums++] =
        (par__sum_range){p->sum, p->flat, par__param_n(p), p->bucket};
}

/* Units of a bucket that share a `sum` group become neighbours: first those with none, then group
 * by group. */
static void place_unit(par_registry *registry, const unit *u, int16_t bucket,
                       const par_param **before) {
    int64_t flat = registry->n_flat;
    for (int i = u->first; i < u->first + u->n; i++) {
        par_param *p = registry->params[i];
        p->flat = flat;
        p->bucket = bucket;
        flat += par__param_n(p);
        add_sum(registry, p, *before);
        *before = p;
    }
    registry->n_flat += u->size;
}

static void place_bucket(par_registry *registry, const unit *units, const bool *member, int n,
                         int16_t chunk, int16_t sublayer) {
    const par_param *before = NULL;
    int16_t number = (int16_t)registry->n_buckets;
    int64_t begin = registry->n_flat, granule = (int64_t)UNIT_ALIGNMENT * registry->dp;
    par_comm *groups[8] = {NULL};
    int n_groups = 1; /* groups[0]: no group */
    for (int i = 0; i < n; i++) {
        int g = 0;
        if (!member[i]) continue;
        while (g < n_groups && groups[g] != units[i].sum) g++;
        if (g == n_groups && n_groups < 8) groups[n_groups++] = units[i].sum;
    }
    for (int g = 0; g < n_groups; g++)
        for (int i = 0; i < n; i++)
            if (member[i] && units[i].sum == groups[g])
                place_unit(registry, &units[i], number, &before);
    int64_t size = (registry->n_flat - begin + granule - 1) / granule * granule;
    registry->n_flat = begin + size;
    par__bucket *b = &registry->buckets[registry->n_buckets++];
    *b = (par__bucket){.begin = begin, .n = size, .chunk = chunk, .sublayer = sublayer};
    b->n_shard = size / registry->dp;
    b->shard = begin + registry->dp_rank * b->n_shard;
}

/* Buckets of one chunk (or of the tied ones, chunk -1): units from the last sublayer to the first.
 * What is left when a backward ends has little to travel under, so the last buckets are smaller: a
 * bucket has an eighth of what comes after it, but a quarter of bucket_n at least. */
static void place_chunk(par_registry *registry, const unit *units, bool *member, int n,
                        int16_t chunk, int64_t bucket_n) {
    int64_t size = 0, left = 0, least = (bucket_n + 3) / 4;
    int16_t sublayer = 0;
    memset(member, 0, (size_t)n * sizeof *member);
    for (int i = 0; i < n; i++) left += units[i].chunk == chunk ? units[i].size : 0;
    for (int i = n - 1; i >= 0; i--) {
        if (units[i].chunk != chunk) continue;
        int64_t enough = left / 8 < least ? least : left / 8 < bucket_n ? left / 8 : bucket_n;
        if (size >= enough && units[i].sublayer != sublayer) { /* buckets end between these */
            place_bucket(registry, units, member, n, chunk, sublayer);
            memset(member, 0, (size_t)n * sizeof *member);
            size = 0;
        }
        member[i] = true;
        size += units[i].size;
        left -= units[i].size;
        sublayer = units[i].sublayer;
    }
    if (size > 0) place_bucket(registry, units, member, n, chunk, sublayer);
}

par_status par__registry_finish(par_registry *registry, int64_t bucket_n) {
    size_t max = (size_t)registry->n_params + 1;
    par_status st = PAR_OK;
    unit *units = calloc(max, sizeof *units);
    bool *member = calloc(max, sizeof *member);
    registry->buckets = calloc(max, sizeof *registry->buckets);
    registry->sums = calloc(max, sizeof *registry->sums);
    if (!units || !member || !registry->buckets || !registry->sums) {
        st = par_error_set(PAR_ERR_MEMORY, "no host memory for %d parameters", registry->n_params);
        goto out;
    }
    int n = collect_units(registry, units);
    for (int c = 0; c < registry->n_chunks; c++) {
        registry->first_bucket[c] = registry->n_buckets;
        place_chunk(registry, units, member, n, (int16_t)c, bucket_n);
    }
    registry->first_bucket[registry->n_chunks] = registry->n_buckets;
    place_chunk(registry, units, member, n, -1, bucket_n);
out:
    free(member);
    free(units);
    return st;
}
