/*
 * tokenizer.json of Hugging Face's tokenizers library: a model (BPE of bytes or characters, or
 * unigram) in one file with the elements around it. What would give other ids here than there is
 * refused. Truncation and padding are not read: they cut ids, they do not make them.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/json_text.h"
#include "libpar/data/tokenizer.h"

static bool is_text(const json_t *value, const char *text) {
    return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}

static bool is_absent(const json_t *value) {
    return !value || json_is_null(value);
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
    par__merge_reader r = {.path = path,
                           .unit = "merge",
                           .vocab = &t->vocab,
                           .plain = t->model == PAR__MODEL_CHARACTERS};
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

/* ---- models ---- */

static par_status read_bpe(const char *path, const json_t *root, const json_t *model, size_t nbytes,
                           par_tokenizer *t) {
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    json_t *vocab = json_object_get(model, "vocab");
    const json_t *added = json_object_get(root, "added_tokens"),
                 *dropout = json_object_get(model, "dropout");
    bool characters = t->model == PAR__MODEL_CHARACTERS;
    const char *unknown = json_string_value(json_object_get(model, "unk_token"));
    if (!is_absent(dropout) && json_number_value(dropout) != 0)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s: \"dropout\" of merges; legal: none", path);
    for (int i = 0; i < 2; i++) {
        const json_t *affix = json_object_get(model, affixes[i]);
        if (!is_absent(affix) && !is_text(affix, ""))
            PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s: has a \"%s\"; legal: none", path, affixes[i]);
    }
    if (!json_is_object(vocab)) PAR_FAIL(PAR_ERR_FORMAT, "%s: \"model\" has no \"vocab\"", path);
    PAR_TRY(par__vocab_read(path, vocab, added, characters, &t->vocab));
    PAR_TRY(read_merges(path, json_object_get(model, "merges"), nbytes, t));
    t->whole_pieces = json_is_true(json_object_get(model, "ignore_merges"));
    t->fuse_unknown = json_is_true(json_object_get(model, "fuse_unk"));
    if (characters && unknown) {
        t->unknown = par__vocab_find(&t->vocab, (const uint8_t *)unknown, strlen(unknown));
        if (t->unknown < 0)
            PAR_FAIL(PAR_ERR_FORMAT, "%s: \"unk_token\" \"%.40s\" is not in the vocabulary", path,
                     unknown);
    }
    return PAR_OK;
}

/* A score as Hugging Face's tokenizers has it, whose parser of JSON (serde_json) rounds twice: all
 * digits to a double, and its quotient by a power of ten. One bit decides between cuts whose sums
 * are otherwise equal, "_" and "__" in either order say. The digits are the fewest that give the
 * score, which is what writers of JSON put into a file. */
static double score_of(double score) {
    char text[32], power[16], *end;
    int n = 15, exponent;
    do {
        snprintf(text, sizeof text, "%.*e", n - 1, fabs(score));
    } while (strtod(text, NULL) != fabs(score) && n++ < 17);
    text[1] = text[0]; /* "d.ddde-01" */
    uint64_t digits = strtoull(text + 1, &end, 10);
    exponent = atoi(end + 1) - (n - 1);
    for (; digits && digits % 10 == 0; digits /= 10) exponent++;
    if (abs(exponent) > 308) return score;
    snprintf(power, sizeof power, "1e%d", abs(exponent));
    double whole = (double)digits, ten = strtod(power, NULL);
    return copysign(exponent < 0 ? whole / ten : whole * ten, score);
}

/* [["piece", score], ...] as {"piece": id}, and the scores. */
static par_status read_pieces(const char *path, const json_t *list, par__unigram *u,
                              json_t *words) {
    size_t n = json_array_size(list);
    double lowest = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(list, i), *piece = json_array_get(entry, 0),
                     *score = json_array_get(entry, 1);
        if (!json_is_string(piece) || json_string_length(piece) == 0 || !json_is_number(score))
            PAR_FAIL(PAR_ERR_FORMAT, "%s: entry %zu of \"vocab\"; legal: [\"piece\", score]", path,
                     i);
        u->scores[i] = score_of(json_number_value(score));
        if (i == 0 || u->scores[i] < lowest) lowest = u->scores[i];
        if (json_object_set_new(words, json_string_value(piece), json_integer((json_int_t)i)) != 0)
            PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %zu pieces", path, n);
    }
    u->unknown = lowest - 10; /* as SentencePiece */
    return PAR_OK;
}

static par_status read_unigram(const char *path, const json_t *root, const json_t *model,
                               par_tokenizer *t) {
    const json_t *list = json_object_get(model, "vocab"),
                 *unknown = json_object_get(model, "unk_id"),
                 *added = json_object_get(root, "added_tokens");
    size_t n = json_array_size(list), max = n + json_array_size(added);
    json_t *words = json_object();
    par__unigram *u = &t->unigram;
    u->scores = calloc(max + 1, sizeof *u->scores);
    u->skipped = calloc(max + 1, sizeof *u->skipped);
    par_status st = PAR_OK;
    if (!words || !u->scores || !u->skipped)
        st = par_error_set(PAR_ERR_MEMORY, "%s: no host memory for %zu pieces", path, n);
    for (size_t i = n; st == PAR_OK && i < max; i++) u->skipped[i] = true; /* added, no pieces */
    if (st == PAR_OK) st = read_pieces(path, list, u, words);
    if (st == PAR_OK) st = par__vocab_read(path, words, added, true, &t->vocab);
    if (st == PAR_OK) st = par__unigram_build(u, &t->vocab);
    json_decref(words);
    if (st != PAR_OK) return st;
    t->fuse_unknown = true;
    json_int_t id = json_is_integer(unknown) ? json_integer_value(unknown) : -1;
    if (id >= t->vocab.n) PAR_FAIL(PAR_ERR_FORMAT, "%s: \"unk_id\" is %lld", path, (long long)id);
    t->unknown = id < 0 ? -1 : (int32_t)id;
    return PAR_OK;
}

/* ---- decoders ---- */

/* What matters to bytes: ▁ is a space, and one in front is left out. */
static par_status read_decoder(const char *path, const json_t *d, par_tokenizer *t) {
    const json_t *type = json_object_get(d, "type"), *list = json_object_get(d, "decoders");
    const json_t *from = json_object_get(json_object_get(d, "pattern"), "String");
    if (is_absent(d) || is_text(type, "ByteFallback") || is_text(type, "Fuse") ||
        is_text(type, "ByteLevel"))
        return PAR_OK;
    if (is_text(type, "Sequence")) {
        for (size_t i = 0; i < json_array_size(list); i++)
            PAR_TRY(read_decoder(path, json_array_get(list, i), t));
        return PAR_OK;
    }
    bool metaspace = is_text(type, "Metaspace"),
         replace = is_text(type, "Replace") && is_text(from, "\xe2\x96\x81") &&
                   is_text(json_object_get(d, "content"), " ");
    bool strip = is_text(type, "Strip") && is_text(json_object_get(d, "content"), " ") &&
                 json_integer_value(json_object_get(d, "start")) == 1 &&
                 json_integer_value(json_object_get(d, "stop")) == 0;
    t->spaces |= metaspace || replace;
    t->strip_first |=
        strip || (metaspace && !is_text(json_object_get(d, "prepend_scheme"), "never"));
    if (metaspace || replace || strip) return PAR_OK;
    char *text = par__json_text(d, JSON_COMPACT);
    par_status st = par_error_set(PAR_ERR_UNSUPPORTED,
                                  "%s: \"decoder\" has %.200s, which is not supported; legal: "
                                  "ByteLevel, ByteFallback, Fuse, Metaspace, Replace of ▁ by a "
                                  "space, Strip of one space in front, Sequence",
                                  path, text ? text : "an element");
    free(text);
    return st;
}

/* ---- the whole ---- */

static par_status read_model(const char *path, const json_t *root, size_t nbytes, bool byte_level,
                             par_tokenizer *t) {
    const json_t *model = json_object_get(root, "model"), *type = json_object_get(model, "type");
    bool fallback = json_is_true(json_object_get(model, "byte_fallback"));
    /* old files have no type: merges tell */
    bool bpe = is_text(type, "BPE") || (is_absent(type) && json_object_get(model, "merges"));
    t->model = is_text(type, "Unigram") ? PAR__MODEL_UNIGRAM
               : byte_level             ? PAR__MODEL_BYTES
                                        : PAR__MODEL_CHARACTERS;
    if (!bpe && t->model != PAR__MODEL_UNIGRAM)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s: \"model\" has \"type\": \"%.40s\"; legal: BPE, Unigram",
                 path, json_is_string(type) ? json_string_value(type) : "");
    if (byte_level && t->model == PAR__MODEL_UNIGRAM)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s: \"model\" has \"type\": \"Unigram\" behind \"ByteLevel\"; legal: BPE", path);
    PAR_TRY(bpe ? read_bpe(path, root, model, nbytes, t) : read_unigram(path, root, model, t));
    if (t->model != PAR__MODEL_BYTES && fallback && !par__find_byte_tokens(t))
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: \"byte_fallback\" is true, and not all of <0x00> to <0xFF> are tokens", path);
    return PAR_OK;
}

static par_status read_json(const char *path, json_t *root, size_t nbytes, par_tokenizer *t) {
    const json_t *added = json_object_get(root, "added_tokens");
    bool byte_level = false;
    if (!is_absent(added) && !json_is_array(added))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: \"added_tokens\" is not a list", path);
    PAR_TRY(par__normalizers_read(path, json_object_get(root, "normalizer"), &t->normalizers));
    PAR_TRY(par__splitter_read(path, json_object_get(root, "pre_tokenizer"), &byte_level,
                               &t->splitter));
    PAR_TRY(read_model(path, root, nbytes, byte_level, t));
    PAR_TRY(par__added_read(path, added, t));
    PAR_TRY(par__frame_read(path, json_object_get(root, "post_processor"), t));
    PAR_TRY(read_decoder(path, json_object_get(root, "decoder"), t));
    if (t->model == PAR__MODEL_BYTES) PAR_TRY(par__tokenizer_complete(t, path, path));
    if (t->model == PAR__MODEL_CHARACTERS) par__find_words(t);
    return par__tokenizer_finish(t);
}

static bool begins_with(const char *text, size_t n, const char *front) {
    return n >= strlen(front) && memcmp(text, front, strlen(front)) == 0;
}

/* A tokenizer.model begins with the tag of a piece, which is a line feed, too. */
par_status par__tokenizer_parse_file(const char *path, const char *text, size_t n,
                                     par_tokenizer **out) {
    size_t at = 0;
    while (at < n && strchr(" \t\r\n", text[at]) && text[at]) at++;
    bool json = n == 0 || text[0] != '\n' || (at < n && text[at] == '{');
    if (begins_with(text, n, "version https://git-lfs"))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: is a pointer of Git LFS, not the file: git lfs pull", path);
    if (begins_with(text, n, "IQ== 0\n"))
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s: is a list of ranks for tiktoken, without the pattern that splits texts; "
                 "legal: the tokenizer.json of the same model",
                 path);
    if (!json) return par__sentencepiece_parse(path, (const uint8_t *)text, n, out);
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
