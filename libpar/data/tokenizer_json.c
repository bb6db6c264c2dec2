/*
 * tokenizer.json of Hugging Face's tokenizers library: a byte-level BPE in one file, with how text
 * is split and which tokens are recognised in it. What would give other ids here than there is
 * refused. Truncation, padding and the post-processor are not read: they cut and frame ids, they do
 * not make them.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/data/tokenizer.h"

static bool is_text(const json_t *value, const char *text) {
    return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}

static bool is_absent(const json_t *value) {
    return !value || json_is_null(value);
}

static bool is_byte_level(const json_t *p) {
    return is_text(json_object_get(p, "type"), "ByteLevel") &&
           json_is_false(json_object_get(p, "add_prefix_space"));
}

/* The expression of {Split, ByteLevel}; NULL: it is something else. */
static const char *find_split(const json_t *pre) {
    const json_t *list = json_object_get(pre, "pretokenizers"), *split = json_array_get(list, 0),
                 *bytes = json_array_get(list, 1);
    if (!is_text(json_object_get(pre, "type"), "Sequence") || json_array_size(list) != 2)
        return NULL;
    if (!is_byte_level(bytes) || !json_is_false(json_object_get(bytes, "use_regex"))) return NULL;
    if (!is_text(json_object_get(split, "type"), "Split") ||
        !is_text(json_object_get(split, "behavior"), "Isolated") ||
        json_is_true(json_object_get(split, "invert")))
        return NULL;
    return json_string_value(json_object_get(json_object_get(split, "pattern"), "Regex"));
}

static par_status read_split(const char *path, const json_t *root, par_tokenizer *t) {
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    if (!is_absent(json_object_get(root, "normalizer")))
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s: has a \"normalizer\"; legal: none", path);
    if (is_byte_level(pre) && !json_is_false(json_object_get(pre, "use_regex")))
        return par__splitter_create(PAR__SPLIT_GPT2, &t->splitter);
    const char *regex = find_split(pre);
    if (!regex)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s: another \"pre_tokenizer\"; legal: ByteLevel without a prefix space, alone or "
                 "behind a "
                 "Split that isolates",
                 path);
    int which = par__splitter_which(regex);
    if (which < 0)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s: text is split by \"%.100s\"; legal: GPT-2's pattern, Llama 3's", path, regex);
    return par__splitter_create(which, &t->splitter);
}

static bool is_affix(const json_t *value) {
    return !is_absent(value) && !is_text(value, "");
}

static par_status check_model(const char *path, const json_t *model) {
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const json_t *dropout = json_object_get(model, "dropout");
    if (!is_text(json_object_get(model, "type"), "BPE"))
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s: \"model\" has another \"type\"; legal: BPE", path);
    if (!is_absent(dropout) && json_number_value(dropout) != 0)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s: \"dropout\" of merges; legal: none", path);
    if (json_is_true(json_object_get(model, "byte_fallback")))
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s: \"byte_fallback\" is true; legal: false, as in a byte-level BPE", path);
    for (int i = 0; i < 2; i++)
        if (is_affix(json_object_get(model, affixes[i])))
            PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s: has a \"%s\"; legal: none", path, affixes[i]);
    return PAR_OK;
}

/* A merge is "LEFT RIGHT" or ["LEFT", "RIGHT"]. */
static par_status read_merge(const par__merge_reader *r, const json_t *merge, par__merges *m) {
    const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
    if (json_is_string(merge))
        return par__merges_add_line(r, json_string_value(merge), json_string_length(merge), m);
    if (json_array_size(merge) != 2 || !json_is_string(left) || !json_is_string(right))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: %s %lld; legal: two tokens", r->path, r->unit,
                 (long long)r->at);
    return par__merges_add(r, json_string_value(left), json_string_length(left),
                           json_string_value(right), json_string_length(right), m);
}

static par_status read_merges(const char *path, const json_t *list, size_t nbytes,
                              par_tokenizer *t) {
    par__merge_reader r = {.path = path, .unit = "merge", .vocab = &t->vocab};
    size_t n = json_array_size(list);
    if (!json_is_array(list)) PAR_FAIL(PAR_ERR_FORMAT, "%s: \"model\" has no \"merges\"", path);
    PAR_TRY(par__merges_begin(&r, n, nbytes, &t->merges));
    par_status st = PAR_OK;
    for (size_t i = 0; st == PAR_OK && i < n; i++) {
        r.at = (int64_t)i + 1;
        st = read_merge(&r, json_array_get(list, i), &t->merges);
    }
    par__merges_end(&r);
    return st;
}

static par_status read_added(const char *path, const json_t *list, par_tokenizer *t) {
    static const char *const off[] = {"single_word", "lstrip", "rstrip"};
    par__added *a = &t->added;
    size_t n = json_array_size(list);
    a->ids = calloc(n + 1, sizeof *a->ids);
    if (!a->ids) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %zu added tokens", path, n);
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(list, i);
        const char *content = json_string_value(json_object_get(entry, "content"));
        for (int k = 0; k < 3; k++)
            if (json_is_true(json_object_get(entry, off[k])))
                PAR_FAIL(PAR_ERR_UNSUPPORTED,
                         "%s: added token \"%.40s\": \"%s\" is true; legal: false", path, content,
                         off[k]);
        a->ids[a->n++] = (int32_t)json_integer_value(json_object_get(entry, "id"));
        a->begins[(uint8_t)content[0]] = true;
    }
    return PAR_OK;
}

static par_status read_json(const char *path, json_t *root, size_t nbytes, par_tokenizer *t) {
    const json_t *model = json_object_get(root, "model"),
                 *added = json_object_get(root, "added_tokens");
    json_t *vocab = json_object_get(model, "vocab");
    PAR_TRY(check_model(path, model));
    if (!json_is_object(vocab)) PAR_FAIL(PAR_ERR_FORMAT, "%s: \"model\" has no \"vocab\"", path);
    if (!is_absent(added) && !json_is_array(added))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: \"added_tokens\" is not a list", path);
    PAR_TRY(read_split(path, root, t));
    PAR_TRY(par__vocab_read(path, vocab, added, &t->vocab));
    PAR_TRY(read_added(path, added, t));
    PAR_TRY(read_merges(path, json_object_get(model, "merges"), nbytes, t));
    t->whole_pieces = json_is_true(json_object_get(model, "ignore_merges"));
    return par__tokenizer_complete(t, path, path);
}

par_status par__tokenizer_parse_file(const char *path, const char *text, size_t n,
                                     par_tokenizer **out) {
    json_t *root = NULL;
    par_tokenizer *t = NULL;
    PAR_TRY(par__tokenizer_load(path, text, n, &root));
    par_status st;
    if (json_object_get(root, "model")) {
        st = par__tokenizer_create(&t);
        if (st == PAR_OK) st = read_json(path, root, n, t);
    } else {
        st = par__tokenizer_read_table(path, root, &t);
    }
    json_decref(root);
    if (st == PAR_OK)
        *out = t;
    else
        par__tokenizer_free(&t);
    return st;
}
