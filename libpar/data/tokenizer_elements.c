/*
 * Elements of a tokenizer.json around its model: normalizer, pre_tokenizer, added tokens,
 * post_processor. Each is an object with a "type"; a Sequence has a list of others. What would give
 * other ids here than in Hugging Face's library is refused by its name and value.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "libpar/base/json_text.h"
#include "libpar/data/tokenizer.h"

static const char *text_of(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

static bool is_true(const json_t *object, const char *name) {
    return json_is_true(json_object_get(object, name));
}

static bool is_absent(const json_t *value) {
    return !value || json_is_null(value);
}

/* A flag that is true where it is not given. */
static bool is_not_false(const json_t *object, const char *name) {
    return !json_is_false(json_object_get(object, name));
}

static bool is(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

/* Index of a word in a list that ends with NULL; -1: it is not there. */
static int find_word(const char *word, const char *const *words) {
    for (int i = 0; words[i]; i++)
        if (is(words[i], word)) return i;
    return -1;
}

static par_status copy(const char *path, const char *text, char **out) {
    size_t n = strlen(text) + 1;
    *out = malloc(n);
    if (!*out) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for a tokenizer", path);
    memcpy(*out, text, n);
    return PAR_OK;
}

static par_status refuse(const char *path, const char *element, const char *member,
                         const json_t *value, const char *legal) {
    char *text = value ? par__json_text(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    par_status st = par_error_set(
        PAR_ERR_UNSUPPORTED, "%s: \"%s\" has \"%s\": %.200s, which is not supported; legal: %s",
        path, element, member, text ? text : "nothing", legal);
    free(text);
    return st;
}

typedef par_status element_reader(const char *path, const json_t *element, void *out);

/* An element, or those of a Sequence's list, one after the other. */
static par_status read_each(const char *path, const json_t *element, const char *list_name,
                            element_reader *read, void *out) {
    if (is_absent(element)) return PAR_OK;
    if (!is(text_of(element, "type"), "Sequence")) return read(path, element, out);
    const json_t *list = json_object_get(element, list_name);
    for (size_t i = 0; i < json_array_size(list); i++)
        PAR_TRY(read(path, json_array_get(list, i), out));
    return PAR_OK;
}

/* {"String": text} or {"Regex": expression}: one of the two gets it. */
static par_status read_pattern(const char *path, const char *element, const json_t *pattern,
                               char **text, par__regex **regex) {
    const char *string = json_string_value(json_object_get(pattern, "String")),
               *expression = json_string_value(json_object_get(pattern, "Regex"));
    if (expression) return par__regex_create(path, element, expression, regex);
    if (!string || !*string)
        return refuse(path, element, "pattern", pattern, "a String or a Regex that is not empty");
    return copy(path, string, text);
}

/* ---- normalizers ---- */

static int unicode_form(const char *type) {
    static const char *const types[] = {"NFC", "NFD", "NFKC", "NFKD", NULL};
    static const int options[] = {UTF8PROC_COMPOSE, UTF8PROC_DECOMPOSE,
                                  UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                                  UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
    int i = find_word(type, types);
    return i < 0 ? 0 : options[i] | UTF8PROC_STABLE;
}

static int digit_of(char c) {
    const char *digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* base64 */
static par_status read_charsmap(const char *path, const json_t *element, par__charsmap *out) {
    const json_t *value = json_object_get(element, "precompiled_charsmap");
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    size_t n = 0, length = strlen(text);
    uint8_t *bytes = malloc(length + 1);
    uint32_t bits = 0;
    int n_bits = 0;
    if (!bytes) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for a \"precompiled_charsmap\"", path);
    for (size_t i = 0; i < length && digit_of(text[i]) >= 0; i++) {
        bits = bits << 6 | (uint32_t)digit_of(text[i]);
        n_bits += 6;
        if (n_bits < 8) continue;
        n_bits -= 8;
        bytes[n++] = (uint8_t)(bits >> n_bits);
    }
    par_status st = par__charsmap_read(path, bytes, n, out);
    free(bytes);
    return st;
}

static par_status read_normalizer(const char *path, const json_t *element, void *user) {
    par__normalizers *out = user;
    const char *type = text_of(element, "type");
    if (out->n == PAR__MAX_STEPS)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s: \"normalizer\" has more than %d steps", path,
                 PAR__MAX_STEPS);
    par__normalizer *s = &out->list[out->n++];
    *s = (par__normalizer){0};
    if ((s->options = unicode_form(type)) != 0) {
        s->kind = PAR__NORMALIZE_UNICODE;
        return PAR_OK;
    }
    if (is(type, "Prepend")) {
        s->kind = PAR__NORMALIZE_PREPEND;
        return copy(path, text_of(element, "prepend"), &s->to);
    }
    if (is(type, "Replace")) {
        s->kind = PAR__NORMALIZE_REPLACE;
        PAR_TRY(copy(path, text_of(element, "content"), &s->to));
        return read_pattern(path, type, json_object_get(element, "pattern"), &s->from, &s->regex);
    }
    if (is(type, "Lowercase")) {
        s->kind = PAR__NORMALIZE_LOWERCASE;
        return PAR_OK;
    }
    if (is(type, "Strip")) {
        s->kind = PAR__NORMALIZE_STRIP;
        s->left = is_true(element, "strip_left");
        s->right = is_true(element, "strip_right");
        return PAR_OK;
    }
    if (is(type, "Precompiled")) {
        s->kind = PAR__NORMALIZE_PRECOMPILED;
        return read_charsmap(path, element, &s->map);
    }
    return refuse(
        path, "normalizer", "type", json_object_get(element, "type"),
        "NFC, NFD, NFKC, NFKD, Prepend, Replace, Lowercase, Strip, Precompiled, Sequence");
}

par_status par__normalizers_read(const char *path, const json_t *element, par__normalizers *out) {
    return read_each(path, element, "normalizers", read_normalizer, out);
}

/* ---- pre-tokenizers ---- */

typedef struct {
    par__splitter *splitter;
    bool *byte_level;
} splitter_reader;

/* A stage to fill; PAR__MAX_STEPS of them are there. */
static par__stage *add_stage(par__splitter *s, par__stage_kind kind, par__behavior behavior) {
    s->list[s->n] = (par__stage){.kind = kind, .behavior = behavior};
    return &s->list[s->n++];
}

static par_status read_behavior(const char *path, const json_t *element, par__behavior *out) {
    static const char *const names[] = {"Isolated",           "Removed",        "Contiguous",
                                        "MergedWithPrevious", "MergedWithNext", NULL};
    int i = find_word(text_of(element, "behavior"), names);
    if (i < 0)
        return refuse(path, text_of(element, "type"), "behavior",
                      json_object_get(element, "behavior"),
                      "Isolated, Removed, Contiguous, MergedWithPrevious, MergedWithNext");
    *out = (par__behavior)i;
    return PAR_OK;
}

static par_status read_split(const char *path, const json_t *element, par__splitter *out) {
    const json_t *pattern = json_object_get(element, "pattern");
    const char *expression = json_string_value(json_object_get(pattern, "Regex"));
    int scan = expression ? par__scanner_which(expression) : -1;
    par__behavior behavior = PAR__ISOLATED;
    PAR_TRY(read_behavior(path, element, &behavior));
    bool invert = is_true(element, "invert");
    /* the pattern matches all of a text, so that nothing is left to remove */
    bool all = behavior == PAR__ISOLATED || (behavior == PAR__REMOVED && invert);
    par__stage *s = add_stage(out, PAR__STAGE_REGEX, behavior);
    s->invert = invert;
    if (scan >= 0 && all) {
        s->kind = PAR__STAGE_SCAN;
        s->scan = scan;
        return PAR_OK;
    }
    PAR_TRY(read_pattern(path, "Split", pattern, &s->text, &s->regex));
    if (!s->regex) s->kind = PAR__STAGE_STRING;
    return PAR_OK;
}

static par_status read_metaspace(const char *path, const json_t *element, par__stage *s) {
    static const char *const schemes[] = {"never", "first", "always", NULL};
    const json_t *scheme = json_object_get(element, "prepend_scheme");
    int i = find_word(text_of(element, "prepend_scheme"), schemes);
    if (is_absent(scheme)) i = is_not_false(element, "add_prefix_space") ? 2 : 0;
    if (i < 0) return refuse(path, "Metaspace", "prepend_scheme", scheme, "never, first, always");
    if (!*text_of(element, "replacement"))
        return refuse(path, "Metaspace", "replacement", json_object_get(element, "replacement"),
                      "a character");
    s->prepend = (par__prepend)i;
    s->split = is_not_false(element, "split");
    return copy(path, text_of(element, "replacement"), &s->text);
}

static par_status read_stage(const char *path, const json_t *element, void *user) {
    splitter_reader *r = user;
    par__splitter *out = r->splitter;
    const char *type = text_of(element, "type");
    if (out->n + 2 > PAR__MAX_STEPS)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s: \"pre_tokenizer\" has more than %d stages", path,
                 PAR__MAX_STEPS - 1);
    if (*r->byte_level)
        return refuse(path, "pre_tokenizer", "type", json_object_get(element, "type"),
                      "ByteLevel as the last one");
    if (is(type, "Split")) return read_split(path, element, out);
    if (is(type, "ByteLevel")) {
        *r->byte_level = true;
        if (is_true(element, "add_prefix_space")) add_stage(out, PAR__STAGE_PREFIX, PAR__ISOLATED);
        if (is_not_false(element, "use_regex"))
            add_stage(out, PAR__STAGE_SCAN, PAR__ISOLATED)->scan = PAR__SPLIT_GPT2;
        return PAR_OK;
    }
    if (is(type, "Digits")) {
        bool single = is_true(element, "individual_digits");
        add_stage(out, PAR__STAGE_CLASS, single ? PAR__ISOLATED : PAR__CONTIGUOUS)->classes =
            PAR__NUMBER;
        return PAR_OK;
    }
    if (is(type, "Punctuation")) {
        par__behavior behavior = PAR__ISOLATED;
        if (json_object_get(element, "behavior")) PAR_TRY(read_behavior(path, element, &behavior));
        add_stage(out, PAR__STAGE_CLASS, behavior)->classes = PAR__PUNCTUATION;
        return PAR_OK;
    }
    if (is(type, "Whitespace")) {
        add_stage(out, PAR__STAGE_WORDS, PAR__REMOVED)->invert = true;
        return PAR_OK;
    }
    if (is(type, "WhitespaceSplit")) {
        add_stage(out, PAR__STAGE_CLASS, PAR__REMOVED)->classes = PAR__SPACE;
        return PAR_OK;
    }
    if (is(type, "Metaspace"))
        return read_metaspace(path, element,
                              add_stage(out, PAR__STAGE_METASPACE, PAR__MERGED_WITH_NEXT));
    return refuse(path, "pre_tokenizer", "type", json_object_get(element, "type"),
                  "ByteLevel, Split, Digits, Punctuation, Whitespace, WhitespaceSplit, Metaspace, "
                  "Sequence");
}

par_status par__splitter_read(const char *path, const json_t *element, bool *byte_level,
                              par__splitter *out) {
    splitter_reader r = {out, byte_level};
    *byte_level = false;
    return read_each(path, element, "pretokenizers", read_stage, &r);
}

/* ---- added tokens ---- */

/* One that is looked for behind the normalizer is looked for as the normalizer leaves it. */
static par_status put_normalized(par_tokenizer *t, par__added_token token) {
    par__grown buffers[2] = {{0}, {0}};
    par__match *match = NULL;
    const uint8_t *text = NULL;
    size_t n = 0;
    PAR_TRY(par__match_create(&match));
    par_status st = par__normalize(&t->normalizers, match, (const uint8_t *)token.text, token.n,
                                   buffers, &text, &n);
    if (st == PAR_OK && n > 0) {
        token.text = (char *)text;
        token.n = n;
        st = par__added_put(&t->normalized_added, &token);
    }
    free(buffers[0].data);
    free(buffers[1].data);
    par__match_destroy(&match);
    return st;
}

par_status par__added_read(const char *path, const json_t *list, par_tokenizer *t) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *content = text_of(entry, "content");
        par__added_token token = {.id = (int32_t)json_integer_value(json_object_get(entry, "id")),
                                  .text = (char *)content, /* copied, not written to */
                                  .n = strlen(content),
                                  .left = is_true(entry, "lstrip"),
                                  .right = is_true(entry, "rstrip"),
                                  .single = is_true(entry, "single_word")};
        bool normalized = is_true(entry, "normalized") && t->normalizers.n > 0;
        PAR_TRY(normalized ? put_normalized(t, token) : par__added_put(&t->added, &token));
    }
    return PAR_OK;
}

/* ---- post-processors ---- */

static par_status put_id(const char *path, const json_t *id, int64_t n_vocab, int32_t *ids,
                         int *n) {
    json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
    if (value < 0 || value >= n_vocab || *n == PAR__MAX_FRAME)
        return refuse(path, "post_processor", "ids", id, "up to 8 ids of the vocabulary on a side");
    ids[(*n)++] = (int32_t)value;
    return PAR_OK;
}

typedef struct {
    const par_tokenizer *t;
    par__frame *frame;
} frame_reader;

/* "single": [{"SpecialToken": {"id": NAME}}, {"Sequence": ...}, ...], NAME's ids in
 * "special_tokens". */
static par_status read_template(const char *path, const json_t *element, frame_reader *r) {
    const json_t *list = json_object_get(element, "single"),
                 *specials = json_object_get(element, "special_tokens");
    par__frame *f = r->frame;
    bool behind = false;
    if (!json_is_array(list)) return refuse(path, "TemplateProcessing", "single", list, "a list");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i),
                     *token = json_object_get(item, "SpecialToken");
        const json_t *ids = json_object_get(json_object_get(specials, text_of(token, "id")), "ids");
        if (json_object_get(item, "Sequence")) {
            if (behind) return refuse(path, "TemplateProcessing", "single", list, "one sequence");
            behind = true;
            continue;
        }
        if (json_array_size(ids) == 0)
            return refuse(path, "TemplateProcessing", "single", item,
                          "tokens that \"special_tokens\" has");
        for (size_t k = 0; k < json_array_size(ids); k++)
            PAR_TRY(put_id(path, json_array_get(ids, k), r->t->vocab.n, behind ? f->end : f->begin,
                           behind ? &f->n_end : &f->n_begin));
    }
    return PAR_OK;
}

static par_status read_post_processor(const char *path, const json_t *element, void *user) {
    frame_reader *r = user;
    const char *type = text_of(element, "type");
    int64_t n = r->t->vocab.n;
    if (is(type, "ByteLevel")) return PAR_OK; /* offsets */
    if (is(type, "TemplateProcessing")) return read_template(path, element, r);
    if (!is(type, "BertProcessing") && !is(type, "RobertaProcessing"))
        return refuse(path, "post_processor", "type", json_object_get(element, "type"),
                      "TemplateProcessing, ByteLevel, BertProcessing, RobertaProcessing, Sequence");
    const json_t *cls = json_object_get(element, "cls"), *sep = json_object_get(element, "sep");
    PAR_TRY(put_id(path, json_array_get(cls, 1), n, r->frame->begin, &r->frame->n_begin));
    return put_id(path, json_array_get(sep, 1), n, r->frame->end, &r->frame->n_end);
}

par_status par__frame_read(const char *path, const json_t *element, par_tokenizer *t) {
    frame_reader r = {t, &t->frame};
    return read_each(path, element, "processors", read_post_processor, &r);
}
