/*
 * The data of train_llm: token files, of each the first part for training and the last part for
 * validation; several are blended by weight. Everything that depends on the files is checked before
 * the model is built.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "train_llm.h"

static const par_tag tag = {"data", -1, -1, -1};
static const char quickstart_tokens[] = "runs/quickstart/tokens.bin";

const char *llm_data_default(void) {
    return access(quickstart_tokens, F_OK) == 0 ? quickstart_tokens : NULL;
}

/* ---- --data: FILE, or W:FILE,W:FILE... ---- */

enum { WEIGHT_UNIT = 1000000 }; /* weights have six digits behind the point */
enum { TAIL = 20 };             /* "...", a hash, and the end of the text */

/* "0.7:" in front of a name: its millionths; 0: there is none; -1: it is not legal. */
static int64_t parse_weight(const char **item) {
    char *end;
    double w = strtod(*item, &end);
    if (end == *item || *end != ':') return 0;
    *item = end + 1;
    double parts = w * WEIGHT_UNIT, whole = floor(parts + 0.5);
    return whole >= 1 && whole <= 1e9 && fabs(parts - whole) < 1e-3 ? (int64_t)whole : -1;
}

/* Megatron's users name a pair by what its two files have in common; what lies beside it has the
 * whole name. */
static void add_bin(char *path, size_t nbytes) {
    size_t n = strlen(path);
    if (access(path, F_OK) == 0 || n + sizeof ".bin" > nbytes) return;
    memcpy(path + n, ".bin", sizeof ".bin");
    if (access(path, F_OK) != 0) path[n] = 0;
}

static par_status add_set(llm_data *d, const char *spec, const char *item, size_t n) {
    if (d->n_sets == LLM_MAX_SETS)
        return par_error_set(PAR_ERR_OPTION, "--data: legal: up to %d token files", LLM_MAX_SETS);
    llm_data_set *set = &d->sets[d->n_sets];
    const char *path = item;
    set->weight = parse_weight(&path);
    if (set->weight < 0 || path >= item + n || n - (size_t)(path - item) >= sizeof set->path)
        return par_error_set(PAR_ERR_OPTION,
                             "--data %s: legal: FILE, or WEIGHT:FILE,WEIGHT:FILE..., with weights "
                             "of 0.000001 to 1000 and up to six digits behind the point",
                             spec);
    snprintf(set->path, sizeof set->path, "%.*s", (int)(n - (size_t)(path - item)), path);
    add_bin(set->path, sizeof set->path);
    d->n_sets++;
    return PAR_OK;
}

static par_status parse_sets(const char *spec, llm_data *d) {
    if (access(spec, F_OK) == 0) return add_set(d, spec, spec, strlen(spec));
    for (const char *item = spec;; item++) {
        size_t n = strcspn(item, ",");
        PAR_TRY(add_set(d, spec, item, n));
        if ((d->sets[d->n_sets - 1].weight > 0) != (d->sets[0].weight > 0))
            return par_error_set(PAR_ERR_OPTION,
                                 "--data %s: legal: a weight for every file, or for none", spec);
        item += n;
        if (!*item) return PAR_OK;
    }
}

void llm_data_path(const char *spec, char *path, size_t nbytes) {
    llm_data *d = calloc(1, sizeof *d);
    bool good = d && parse_sets(spec, d) == PAR_OK;
    snprintf(path, nbytes, "%s", good ? d->sets[0].path : spec);
    free(d);
}

/* ---- opening, and one look at every id per file ---- */

/* What is written as a whole would replace a file of tokens that has its name. (Logs and tables go
 * on only in what is theirs.) */
static par_status keep_file(const llm_run *r, const char *tokens) {
    const struct {
        const char *name, *path;
    } written[] = {{"curve", r->set.curve},
                   {"trace-file", r->set.trace_file},
                   {"comm-matrix-csv", r->set.comm_matrix_csv},
                   {"comm-matrix-svg", r->set.comm_matrix_svg}};
    struct stat about, other;
    if (stat(tokens, &about) != 0) return PAR_OK;
    for (size_t i = 0; i < sizeof written / sizeof *written; i++)
        if (written[i].path && stat(written[i].path, &other) == 0 && other.st_dev == about.st_dev &&
            other.st_ino == about.st_ino)
            return par_error_set(PAR_ERR_OPTION,
                                 "--%s %s: is a file of --data; it is not replaced; legal: another "
                                 "name",
                                 written[i].name, written[i].path);
    return PAR_OK;
}

static par_status list_sets(const llm_run *r, llm_data *d) {
    if (r->set.data) return parse_sets(r->set.data, d);
    return par_error_set(
        PAR_ERR_OPTION,
        "--data: is missing; legal: a token file (Megatron, llm.c, nanoGPT). ./quickstart makes %s "
        "of the text on this machine, ./par data of any text",
        quickstart_tokens);
}

static par_status open_set(const llm_run *r, llm_data_set *set, int64_t vocab) {
    const par_tokens_params params = {.form = (par_tokens_form)r->set.data_form, .vocab = vocab};
    par_status st = par_tokens_open_as(set->path, &params, &set->tokens);
    if (st != PAR_OK && strstr(par_error(), "form"))
        return par_error_set(st, "%s (--data-form)", par_error());
    PAR_TRY(st);
    PAR_TRY(keep_file(r, set->path));
    int64_t n = par_tokens_n(set->tokens), shortest = r->config.tokens + 1;
    if (r->guessed) shortest = r->set.tokens + 1; /* 1: not known */
    set->end = n;
    set->cut = n - (int64_t)((double)n * r->set.split);
    if (set->cut < shortest || (r->set.split > 0 && n - set->cut < shortest))
        return par_error_set(
            PAR_ERR_OPTION,
            "%s: has %lld token%s, %lld of them for validation; legal: --tokens + 1 = %lld or more "
            "in each part",
            set->path, (long long)n, llm_report_s(n), (long long)(n - set->cut),
            (long long)shortest);
    return PAR_OK;
}

static par_status open_sets(const llm_run *r, llm_data *d) {
    PAR_TRY(list_sets(r, d));
    for (int k = 0; k < d->n_sets; k++) PAR_TRY(open_set(r, &d->sets[k], r->config.vocab));
    return PAR_OK;
}

/* The largest id against the vocabulary of the model; a negative one is INT64_MAX there, and in raw
 * u32 above INT32_MAX. */
static par_status check_ids(const llm_run *r, const llm_data_set *set, int64_t vocab) {
    int64_t max = set->facts.max;
    bool raw = strncmp(set->facts.form, "raw ", 4) == 0, fixed = r->set.import || r->carried.model;
    char legal[128];
    if (max < vocab) return PAR_OK;
    if (max > INT32_MAX)
        return par_error_set(PAR_ERR_OPTION,
                             "%s: holds a negative token; legal: 0 to %lld, the vocabulary of the "
                             "model %s%s%s",
                             set->path, (long long)vocab - 1, r->config.name,
                             raw ? ", or another --data-form than " : "",
                             raw ? set->facts.form : "");
    snprintf(legal, sizeof legal, "--vocab %lld or more", (long long)max + 1);
    return par_error_set(
        PAR_ERR_OPTION,
        "%s: holds token %lld; the model %s has a vocabulary of %lld; legal: %s%s%s%s", set->path,
        (long long)max, r->config.name, (long long)vocab,
        fixed ? "tokens of that model's own tokenizer" : legal,
        raw ? ", or another --data-form than " : "", raw ? set->facts.form : "",
        raw ? ", as which it was read (the lowest byte of an id first)" : "");
}

void llm_data_check(const llm_run *r, int64_t vocab, par_problems *problems) {
    static llm_data d;
    memset(&d, 0, sizeof d);
    if (list_sets(r, &d) != PAR_OK) par_problem(problems, "%s", par_error());
    for (int k = 0; k < d.n_sets; k++) {
        llm_data_set *set = &d.sets[k];
        par_status st = open_set(r, set, vocab);
        /* the look at all ids leaves a stamp, so that the ranks need none */
        bool looks = st == PAR_OK && r->set.check_files && vocab;
        if (looks) st = par_tokens_check(set->tokens, NULL, NULL, &set->facts);
        if (looks && st == PAR_OK) st = check_ids(r, set, vocab);
        if (st != PAR_OK) par_problem(problems, "--data %s", par_error());
    }
    llm_data_close(&d);
}

typedef struct {
    const llm_data_set *set;
    double begin, last;
    bool prints;
} progress;

static void show_progress(void *user, int64_t done, int64_t n) {
    progress *p = user;
    double now = llm_world_seconds();
    if (!p->prints || (now - p->last < 1 && done < n) || (done == n && now - p->begin < 1)) return;
    p->last = now;
    printf("data: %s: %lld%% of %lld ids checked, %.1f s\n", p->set->path,
           (long long)((double)done / (double)n * 100), (long long)n, now - p->begin);
}

/* One rank of each node looks; every rank gets rank 0's figures, which must be those of its own
 * node's file. Collective. */
static par_status check_set(const llm_run *r, const llm_world *w, llm_data_set *set) {
    double now = llm_world_seconds();
    progress p = {set, now, now, w->rank == 0};
    bool looks = par_transport_local_rank(w->transport) == 0;
    par_tokens_facts mine = {0};
    par_status st = looks ? par_tokens_check(set->tokens, show_progress, &p, &mine) : PAR_OK;
    PAR_TRY(par_comm_agree(w->comm, st));
    set->facts = mine;
    if (w->rank == 0 && *mine.note)
        printf("note: %s; so all ids of %s are read at every start\n", mine.note, set->path);
    PAR_TRY(par_comm_broadcast(w->comm, &set->facts, sizeof mine, PAR_U8, 0, tag, NULL, NULL));
    if (looks && mine.fingerprint != set->facts.fingerprint)
        st = par_error_set(PAR_ERR_FORMAT,
                           "%s: rank %d's node has other ids in it (fingerprint %016" PRIx64
                           ") than rank 0's (%016" PRIx64 ")",
                           set->path, w->rank, mine.fingerprint, set->facts.fingerprint);
    else
        st = check_ids(r, set, r->config.vocab);
    return par_comm_agree(w->comm, st);
}

/* ---- samples ---- */

static int64_t gcd(int64_t a, int64_t b) {
    return b == 0 ? a : gcd(b, a % b);
}

/* Without weights each file by its sequences, so that an epoch has each of them once. */
static par_status settle_weights(llm_data *d) {
    int64_t divisor = 0, sum = 0;
    for (int k = 0; k < d->n_sets; k++) {
        llm_data_set *set = &d->sets[k];
        if (set->weight == 0) set->weight = par_sampler_n_sequences(set->train);
        divisor = gcd(set->weight, divisor);
        sum += set->weight;
    }
    if (sum / divisor > INT32_MAX) divisor = sum / INT32_MAX + 1;
    for (int k = 0; k < d->n_sets; k++) {
        int64_t weight = d->sets[k].weight / divisor;
        d->sets[k].weight = weight > 0 ? weight : 1;
    }
    return PAR_OK;
}

static par_status create_blend(const llm_run *r, const llm_data *d, bool validation,
                               par_blend **out) {
    par_blend_entry parts[LLM_MAX_SETS];
    size_t nbytes = (size_t)r->config.tokens * sizeof(int32_t);
    for (int k = 0; k < d->n_sets; k++) {
        const llm_data_set *set = &d->sets[k];
        parts[k].source = par_sampler_source(validation ? set->validation : set->train);
        parts[k].weight = set->weight;
    }
    return par_blend_create(parts, d->n_sets, nbytes, nbytes, out);
}

/* As many as were asked for, without any of them twice. */
static int64_t count_validation(const llm_run *r, const llm_data *d) {
    int64_t counts[LLM_MAX_SETS], n = r->set.eval_batches * r->set.batch, most = 0;
    for (int k = 0; k < d->n_sets; k++) most += par_sampler_n_sequences(d->sets[k].validation);
    for (n = n < most ? n : most; n > 1; n--) {
        bool once = true;
        par_blend_counts(d->validation_blend, n, counts);
        for (int k = 0; k < d->n_sets; k++)
            once = once && counts[k] <= par_sampler_n_sequences(d->sets[k].validation);
        if (once) break;
    }
    return n;
}

static par_status blend(const llm_run *r, llm_data *d) {
    for (int k = 0; k < d->n_sets; k++) {
        llm_data_set *set = &d->sets[k];
        par_sampler_params p = {.tokens = set->tokens,
                                .T = r->config.tokens,
                                .end = set->cut,
                                .seed = (uint64_t)r->set.seed + (uint64_t)k,
                                .shuffle = true};
        PAR_TRY(par_sampler_create(&p, &set->train));
        if (set->cut != set->end) {
            /* A fixed random subset: the first samples of the part may be one file. */
            p.begin = set->cut;
            p.end = set->end;
            p.seed = 0;
            PAR_TRY(par_sampler_create(&p, &set->validation));
        }
        d->cut += set->cut;
        d->end += set->end;
    }
    PAR_TRY(settle_weights(d));
    PAR_TRY(create_blend(r, d, false, &d->train_blend));
    d->train = par_blend_source(d->train_blend);
    if (d->cut == d->end) return PAR_OK;
    PAR_TRY(create_blend(r, d, true, &d->validation_blend));
    d->validation = par_blend_source(d->validation_blend);
    d->n_validation = count_validation(r, d);
    return PAR_OK;
}

/* --data may name other paths on other nodes, but as many files of the same weights. Collective. */
static par_status check_weights(const llm_world *w, const llm_data *d) {
    int64_t mine[1 + LLM_MAX_SETS] = {d->n_sets}, first[1 + LLM_MAX_SETS];
    for (int k = 0; k < d->n_sets; k++) mine[1 + k] = d->sets[k].weight;
    memcpy(first, mine, sizeof first);
    PAR_TRY(par_comm_broadcast(w->comm, first, sizeof first, PAR_U8, 0, tag, NULL, NULL));
    par_status st = memcmp(mine, first, sizeof first) == 0
                        ? PAR_OK
                        : par_error_set(PAR_ERR_OPTION,
                                        "--data has other numbers of files, or weights, on rank "
                                        "%d than on rank 0; legal: the same, only paths may differ",
                                        w->rank);
    return par_comm_agree(w->comm, st);
}

par_status llm_data_open(const llm_run *r, const llm_world *w, llm_data *d) {
    PAR_TRY(par_comm_agree(w->comm, open_sets(r, d)));
    PAR_TRY(check_weights(w, d));
    for (int k = 0; k < d->n_sets; k++) PAR_TRY(check_set(r, w, &d->sets[k]));
    return par_comm_agree(w->comm, blend(r, d));
}

void llm_data_close(llm_data *d) {
    par_blend_destroy(&d->validation_blend);
    par_blend_destroy(&d->train_blend);
    for (int k = 0; k < d->n_sets; k++) {
        par_sampler_destroy(&d->sets[k].validation);
        par_sampler_destroy(&d->sets[k].train);
        par_tokens_close(&d->sets[k].tokens);
    }
}

/* ---- what is said of it ---- */

void llm_data_fingerprint(const llm_data *d, char *text, size_t nbytes) {
    enum { ONE = 32 }; /* "2147483647:0123456789abcdef," */
    char all[LLM_MAX_SETS * ONE];
    size_t used = 0;
    for (int k = 0; k < d->n_sets; k++) {
        const llm_data_set *set = &d->sets[k];
        if (d->n_sets > 1)
            used +=
                (size_t)snprintf(all + used, ONE, "%s%lld:", k ? "," : "", (long long)set->weight);
        used += (size_t)snprintf(all + used, ONE, "%016" PRIx64, set->facts.fingerprint);
    }
    llm_data_shorten(all, text, nbytes);
}

void llm_data_shorten(const char *all, char *text, size_t nbytes) {
    if ((size_t)snprintf(text, nbytes, "%s", all) < nbytes) return;
    snprintf(text + nbytes - TAIL, TAIL, "...%016" PRIx64, par_hash_name(all));
}

/* "llm.c u16, vocabulary 256, ids up to 122, 18 documents, fingerprint 0123456789abcdef" */
static void print_facts(const par_tokens_facts *f) {
    printf("%s, ", f->form);
    if (f->vocab) printf("vocabulary %lld, ", (long long)f->vocab);
    printf("ids up to %lld, ", (long long)f->max);
    if (f->n_documents >= 0)
        printf("%lld document%s, ", (long long)f->n_documents, llm_report_s(f->n_documents));
    printf("fingerprint %016" PRIx64 "\n", f->fingerprint);
}

void llm_data_print(const llm_run *r, const llm_data *d) {
    printf("data: %s, %lld tokens for training, %lld for validation", r->set.data,
           (long long)d->cut, (long long)(d->end - d->cut));
    if (r->params.documents_apart)
        printf(", documents apart behind id %d", (int)r->params.document_end);
    if (d->n_sets == 1) {
        printf(" | ");
        print_facts(&d->sets[0].facts);
        return;
    }
    printf("\n");
    for (int k = 0; k < d->n_sets; k++) {
        const llm_data_set *set = &d->sets[k];
        printf("  %lld part%s of %s, %lld + %lld tokens | ", (long long)set->weight,
               llm_report_s(set->weight), set->path, (long long)set->cut,
               (long long)(set->end - set->cut));
        print_facts(&set->facts);
    }
}

/* ---- a table of pairs, to compare with ---- */

typedef struct {
    int64_t *pairs, *firsts; /* [V, V], [V] */
    int64_t V;
    double nats;
} bigram_table;

/* Walk the pairs of tokens [begin, end): count them, or add up -log p of the counts. */
static par_status walk(const par_tokens *tokens, int64_t begin, int64_t end, bigram_table *t,
                       bool count) {
    enum { CHUNK = 1 << 14 };
    int32_t block[CHUNK + 1];
    for (int64_t first = begin; first + 1 < end; first += CHUNK) {
        int64_t n = end - first < CHUNK + 1 ? end - first : CHUNK + 1;
        PAR_TRY(par_tokens_read(tokens, first, n, block));
        for (int64_t i = 0; i + 1 < n; i++) {
            int64_t *pair = &t->pairs[block[i] * t->V + block[i + 1]];
            if (count) {
                ++*pair;
                t->firsts[block[i]]++;
            } else {
                t->nats -= log((double)(*pair + 1) / (double)(t->firsts[block[i]] + t->V));
            }
        }
    }
    return PAR_OK;
}

par_status llm_data_bigram(const llm_data *d, int64_t vocab, double *nats) {
    bigram_table t = {.V = vocab};
    if (vocab > 4096)
        return par_error_set(PAR_ERR_OPTION, "--bigram: a vocabulary of %lld; legal: up to 4096",
                             (long long)vocab);
    if (d->n_validation == 0 || d->n_sets != 1)
        return par_error_set(PAR_ERR_OPTION,
                             "--bigram: needs one token file with a validation part; legal: "
                             "--split above 0");
    t.pairs = calloc((size_t)(vocab * vocab), sizeof *t.pairs);
    t.firsts = calloc((size_t)vocab, sizeof *t.firsts);
    par_status st = t.pairs && t.firsts
                        ? PAR_OK
                        : par_error_set(PAR_ERR_MEMORY, "no host memory for a bigram table");
    if (st == PAR_OK) st = walk(d->sets[0].tokens, 0, d->cut, &t, true);
    if (st == PAR_OK) st = walk(d->sets[0].tokens, d->cut, d->end, &t, false);
    if (st == PAR_OK) *nats = t.nats / (double)(d->end - d->cut - 1);
    free(t.firsts);
    free(t.pairs);
    return st;
}
