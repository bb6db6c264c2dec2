/* The head of a manifest: numbers, the index, and the pairs that say what the run was. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/utf8.h"
#include "libpar/checkpoint/contents.h"

static const char *const formats[] = {"libpar checkpoint 1", "libpar checkpoint 2"};
static const char *const classes[] = {"noted", "equal", "stated"};

const char *par__contents_text(par_checkpoint *c, const char *text, size_t n) {
    if (c->max_text - c->n_text < n + 1) return NULL;
    char *to = c->text + c->n_text;
    memcpy(to, text, n);
    to[n] = 0;
    c->n_text += n + 1;
    return to;
}

static par_status take_pairs(par_checkpoint *c, const char *path, size_t n) {
    c->pairs = calloc(n + 1, sizeof *c->pairs);
    if (!c->pairs) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %zu pairs", path, n);
    return PAR_OK;
}

/* What version 1 said of a run. */
static par_status old_pairs(par_checkpoint *c, const char *path, json_t *root) {
    static const char *const texts[] = {"model", "layout", "options"};
    static const char *const names[] = {"description of the model", "description of the layout",
                                        "description of the options"};
    PAR_TRY(take_pairs(c, path, 3));
    for (int i = 0; i < 3; i++) {
        const char *value = json_string_value(json_object_get(root, texts[i]));
        if (!value) PAR_FAIL(PAR_ERR_FORMAT, "%s: manifest: no %s", path, texts[i]);
        c->pairs[c->n_pairs++] = (par_checkpoint_pair){
            names[i], par__contents_text(c, value, strlen(value)), PAR_CHECKPOINT_STATED};
        if (!c->pairs[i].value) PAR_FAIL(PAR_ERR_FORMAT, "%s: more text than it has", path);
    }
    return PAR_OK;
}

/* An unknown class is that of a later version: recorded, and not compared. */
static par_status new_pairs(par_checkpoint *c, const char *path, json_t *root) {
    json_t *list, *entry;
    json_int_t nbytes;
    const char *hash, *name, *value, *class_of;
    size_t i;
    if (json_unpack(root, "{s:{s:I,s:s},s:o}", "index", "nbytes", &nbytes, "hash", &hash, "pairs",
                    &list) != 0 ||
        nbytes < 0 || strlen(hash) != PAR__HASH - 1 || !json_is_array(list))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: manifest: index or pairs are missing or damaged", path);
    c->index.nbytes = nbytes;
    memcpy(c->index.hash, hash, PAR__HASH);
    PAR_TRY(take_pairs(c, path, json_array_size(list)));
    json_array_foreach(list, i, entry) {
        if (json_unpack(entry, "[sss]", &name, &value, &class_of) != 0)
            PAR_FAIL(PAR_ERR_FORMAT, "%s: manifest: pair %zu is damaged", path, i);
        par_checkpoint_pair *p = &c->pairs[c->n_pairs];
        if (!par__is_plain(name) || !par__is_plain(value))
            PAR_FAIL(PAR_ERR_FORMAT, "%s: manifest: pair %zu has control characters", path, i);
        p->name = par__contents_text(c, name, strlen(name));
        p->value = par__contents_text(c, value, strlen(value));
        if (!p->name || !p->value) PAR_FAIL(PAR_ERR_FORMAT, "%s: more text than it has", path);
        p->class_of = PAR_CHECKPOINT_STATED;
        for (int k = 0; k < 3; k++)
            if (strcmp(class_of, classes[k]) == 0) p->class_of = (par_checkpoint_class)k;
        c->n_pairs++;
    }
    return PAR_OK;
}

/* The name of a step's directory is that of the step: a copy under another one would be taken for
 * what its name says, again and again. */
static par_status check_step(const char *path, int64_t step) {
    const char *rest;
    char own[PAR__NAME], name[PAR__NAME];
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/') begin--;
    snprintf(name, sizeof name, "%.*s", (int)(end - begin), path + begin);
    int64_t named = par__step_of(name, &rest);
    if (named < 0 || named == step || (*rest && strcmp(rest, PAR__ASIDE) != 0)) return PAR_OK;
    par__step_name(step, own);
    PAR_FAIL(PAR_ERR_FORMAT, "%s: holds step %lld, a copy under another name; legal: %s", path,
             (long long)step, own);
}

static par_status parse(par_checkpoint *c, const char *path, json_t *root, size_t *n_ranks) {
    const char *format = json_string_value(json_object_get(root, "format"));
    const char *run = "", *parent = "";
    json_int_t step, consumed, updates, ranks;
    json_error_t error;
    int version = 2;
    while (version > 0 && (!format || strcmp(format, formats[version - 1]) != 0)) version--;
    if (version == 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: its format is \"%s\"; legal: \"%s\", \"%s\"", path,
                 format ? format : "", formats[0], formats[1]);
    if (json_unpack_ex(root, &error, 0, "{s:I,s:I,s:I,s:F,s:I}", "step", &step, "consumed",
                       &consumed, "updates", &updates, "loss", &c->info.loss, "ranks", &ranks) != 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: manifest: %s", path, error.text);
    if (step < 0 || step > PAR__STEP_MAX || consumed < 0 || consumed > INT64_MAX / 2 ||
        updates < 0 || ranks < 1 || ranks > INT32_MAX)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: manifest: step %lld, %lld samples, %lld updates, %lld ranks; legal: steps to "
                 "%d, no count below zero, samples that can be added to, a rank",
                 path, (long long)step, (long long)consumed, (long long)updates, (long long)ranks,
                 PAR__STEP_MAX);
    PAR_TRY(check_step(path, step));
    c->info.step = step;
    c->info.consumed = consumed;
    c->info.updates = updates;
    *n_ranks = (size_t)ranks;
    /* Whose it is, and how good: none of it is there where there was no owner, no validation. */
    if (json_unpack(root, "{s?s,s?s,s?F}", "run", &run, "parent", &parent, "validation",
                    &c->info.validation) != 0 ||
        strlen(run) >= PAR_RUN_ID || strlen(parent) >= PAR_RUN_ID)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: manifest: run, parent or validation are damaged", path);
    if (!par__is_plain(run) || !par__is_plain(parent))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: manifest: the run's id has control characters", path);
    strcpy(c->info.run, run);
    strcpy(c->info.parent, parent);
    return version == 1 ? old_pairs(c, path, root) : new_pairs(c, path, root);
}

par_status par__contents_head(par_checkpoint *c, const char *path, const char *text, size_t nbytes,
                              size_t *n_ranks) {
    json_error_t error;
    char *object = malloc(nbytes + 1);
    if (!object) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %zu bytes", path, nbytes);
    memcpy(object, text, nbytes);
    object[nbytes] = '}';
    json_t *root = json_loadb(object, nbytes + 1, JSON_REJECT_DUPLICATES, &error);
    free(object);
    if (!root) PAR_FAIL(PAR_ERR_FORMAT, "%s: line %d: %s", path, error.line, error.text);
    par_status st = parse(c, path, root, n_ranks);
    json_decref(root);
    return st;
}

/* Version 1 says in texts what are pairs now: the word behind a key, "" if it says nothing. */
static void old_value(const par_checkpoint *c, const char *name, char out[64]) {
    static const struct {
        const char *name, *key;
    } keys[] = {{"vocabulary", " V "}, {"layers", " L "},     {"channels", " C "},
                {"heads", " H "},      {"kv heads", " K "},   {"head size", " D "},
                {"mlp", " F "},        {"norm eps", " eps "}, {"rope theta", " rope "}};
    const char *model = c->pairs[0].value, *layout = c->pairs[1].value, *at = NULL;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(name, keys[i].name) == 0 && (at = strstr(model, keys[i].key)))
            at += strlen(keys[i].key);
    if (strcmp(name, "optimizer") == 0 && strstr(layout, ", adamw,")) at = "adamw";
    if (strcmp(name, "optimizer") == 0 && strstr(layout, ", sgd,")) at = "sgd";
    snprintf(out, 64, "%.*s", at ? (int)strcspn(at, " ,") : 0, at ? at : "");
}

void par__contents_compare(const par_checkpoint *c, const par_checkpoint_about *about,
                           par_problems *refused, par_problems *notes) {
    const bool is_old = c->index.nbytes == 0;
    for (int i = 0; i < about->n; i++) {
        const par_checkpoint_pair *now = &about->pairs[i];
        int k = 0;
        while (k < c->n_pairs && strcmp(c->pairs[k].name, now->name) != 0) k++;
        char text[64] = "";
        if (k == c->n_pairs && is_old) old_value(c, now->name, text);
        const char *saved = k < c->n_pairs ? c->pairs[k].value : *text ? text : NULL;
        if (!saved || strcmp(saved, now->value) == 0) continue;
        if (now->class_of == PAR_CHECKPOINT_EQUAL)
            par_problem(refused, "%s: its %s is \"%s\"; this run's is \"%s\"", c->info.path,
                        now->name, saved, now->value);
        if (now->class_of == PAR_CHECKPOINT_NOTED)
            par_problem(notes, "%s: %s when saved, now %s", now->name, saved, now->value);
    }
    if (is_old)
        par_problem(notes,
                    "%s: is of version 1, which recorded options as text: of the model's shape and "
                    "the optimizer alone it was compared",
                    c->info.path);
}

const par_checkpoint_pair *par_checkpoint_pairs(const par_checkpoint *c, int *n) {
    *n = c ? c->n_pairs : 0;
    return c ? c->pairs : NULL;
}
