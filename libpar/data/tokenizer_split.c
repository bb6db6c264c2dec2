/*
 * Pre-tokenizers: a text goes through stages, each of which cuts the pieces of the one before
 * further. A stage finds matches; its behavior says which pieces matches and the texts between them
 * become. Stretches of sound UTF-8 are split; a run of bytes between them that is none is one
 * piece.
 */
#include <stdlib.h>
#include <string.h>

#include "libpar/base/utf8.h"
#include "libpar/data/tokenizer.h"

void par__splitter_destroy(par__splitter *splitter) {
    for (int i = 0; i < splitter->n; i++) {
        par__regex_destroy(&splitter->list[i].regex);
        free(splitter->list[i].text);
    }
    splitter->n = 0;
}

par_status par__split_memory_create(par__split_memory *out) {
    *out = (par__split_memory){0};
    return par__match_create(&out->match);
}

void par__split_memory_destroy(par__split_memory *memory) {
    par__match_destroy(&memory->match);
    for (int i = 0; i < PAR__MAX_STEPS; i++) free(memory->buffers[i].data);
    *memory = (par__split_memory){0};
}

/* One call of par__splitter_run. */
typedef struct {
    const par__splitter *splitter;
    par__split_memory *memory;
    par__piece_visitor *visit;
    void *user;
} run;

typedef struct {
    size_t begin, end; /* equal: there is none */
} range;

/* ---- matches ---- */

static void find_string(const char *text, const uint8_t *p, size_t n, size_t from, range *out) {
    size_t k = strlen(text);
    for (size_t at = from; at + k <= n; at++) {
        if (memcmp(p + at, text, k) != 0) continue;
        *out = (range){at, at + k};
        return;
    }
}

static void find_class(unsigned classes, const uint8_t *p, size_t n, size_t from, range *out) {
    for (size_t at = from, k; at < n; at += k) {
        if (!(par__class_at(p + at, n - at, &k) & classes)) continue;
        *out = (range){at, at + k};
        return;
    }
}

/* \w+|[^\w\s]+ */
static void find_word(const uint8_t *p, size_t n, size_t from, range *out) {
    size_t at = from, k = 0;
    unsigned classes = 0, both = PAR__WORD | PAR__SPACE;
    while (at < n && ((classes = par__class_at(p + at, n - at, &k)) & PAR__SPACE)) at += k;
    if (at == n) return;
    unsigned kind = classes & both;
    out->begin = at;
    for (at += k; at < n && (par__class_at(p + at, n - at, &k) & both) == kind; at += k) {
    }
    out->end = at;
}

/* The first match from `from` on. */
static par_status find(const par__stage *s, par__match *match, const uint8_t *p, size_t n,
                       size_t from, range *out) {
    *out = (range){n, n};
    if (s->kind == PAR__STAGE_REGEX)
        return par__regex_find(s->regex, match, p, n, from, &out->begin, &out->end);
    if (s->kind == PAR__STAGE_CLASS)
        find_class(s->classes, p, n, from, out);
    else if (s->kind == PAR__STAGE_WORDS)
        find_word(p, n, from, out);
    else
        find_string(s->text, p, n, from, out); /* STRING, METASPACE */
    return PAR_OK;
}

/* ---- pieces ---- */

static par_status run_stage(const run *r, int index, const uint8_t *p, size_t n, bool first);

/* Pieces of one text that wait for what may join them. */
typedef struct {
    const run *r;
    int next; /* stage */
    const uint8_t *text;
    bool first; /* the text is */
    par__behavior behavior;
    range waiting;
    bool was; /* the last range was a match */
} cutter;

/* The next range of the text, a match if `is`; it may go into one piece with the one before. */
static par_status cut(cutter *c, size_t begin, size_t end, bool is) {
    if (begin == end || (is && c->behavior == PAR__REMOVED)) return PAR_OK;
    bool joins = c->behavior == PAR__CONTIGUOUS             ? c->was == is
                 : c->behavior == PAR__MERGED_WITH_PREVIOUS ? is && !c->was
                 : c->behavior == PAR__MERGED_WITH_NEXT     ? c->was && !is
                                                            : false;
    range done = c->waiting;
    c->was = is;
    if (joins && done.end > done.begin) {
        c->waiting.end = end;
        return PAR_OK;
    }
    c->waiting = (range){begin, end};
    if (done.begin == done.end) return PAR_OK;
    return run_stage(c->r, c->next, c->text + done.begin, done.end - done.begin,
                     c->first && done.begin == 0);
}

static par_status cut_matches(const run *r, int index, const uint8_t *p, size_t n, bool first) {
    const par__stage *s = &r->splitter->list[index];
    cutter c = {r, index + 1, p, first, s->behavior, {0, 0}, false};
    range found;
    for (size_t at = 0; at < n; at = found.end) {
        PAR_TRY(find(s, r->memory->match, p, n, at, &found));
        PAR_TRY(cut(&c, at, found.begin, s->invert));
        PAR_TRY(cut(&c, found.begin, found.end, !s->invert));
    }
    range last = c.waiting;
    if (last.begin == last.end) return PAR_OK;
    return run_stage(r, index + 1, p + last.begin, last.end - last.begin, first && last.begin == 0);
}

static par_status put_spaces(const run *r, int index, const uint8_t *p, size_t n, bool first) {
    const par__stage *s = &r->splitter->list[index];
    par__grown *to = &r->memory->buffers[index];
    bool meta = s->kind == PAR__STAGE_METASPACE;
    const char *space = meta ? s->text : " ";
    size_t n_space = strlen(space);
    bool wanted =
        !meta || s->prepend == PAR__PREPEND_ALWAYS || (s->prepend == PAR__PREPEND_FIRST && first);
    bool there = (n >= n_space && memcmp(p, space, n_space) == 0) || p[0] == ' ';
    to->n = 0;
    if (wanted && !there) PAR_TRY(par__grown_append(to, space, n_space));
    for (size_t i = 0; meta && i < n; i++)
        PAR_TRY(p[i] == ' ' ? par__grown_append(to, space, n_space)
                            : par__grown_append(to, p + i, 1));
    if (!meta) PAR_TRY(par__grown_append(to, p, n));
    if (meta && s->split) return cut_matches(r, index, to->data, to->n, first);
    return run_stage(r, index + 1, to->data, to->n, first);
}

static par_status scan(const run *r, int index, const uint8_t *p, size_t n, bool first) {
    int which = r->splitter->list[index].scan;
    bool last = index + 1 == r->splitter->n;
    for (size_t at = 0, k; at < n; at += k) {
        k = par__scan(which, p + at, n - at);
        PAR_TRY(last ? r->visit(r->user, p + at, k)
                     : run_stage(r, index + 1, p + at, k, first && at == 0));
    }
    return PAR_OK;
}

static par_status run_stage(const run *r, int index, const uint8_t *p, size_t n, bool first) {
    if (index == r->splitter->n) return r->visit(r->user, p, n);
    switch (r->splitter->list[index].kind) {
    case PAR__STAGE_SCAN: return scan(r, index, p, n, first);
    case PAR__STAGE_PREFIX:
    case PAR__STAGE_METASPACE: return put_spaces(r, index, p, n, first);
    default: return cut_matches(r, index, p, n, first);
    }
}

par_status par__splitter_run(const par__splitter *splitter, par__split_memory *memory,
                             const uint8_t *text, size_t n, bool first, par__piece_visitor *visit,
                             void *user) {
    const run r = {splitter, memory, visit, user};
    if (splitter->n == 0) return n > 0 ? visit(user, text, n) : PAR_OK;
    for (size_t at = 0, end, k; at < n; at = end) {
        /* to the end of the stretch that is sound UTF-8, or of the run that is not */
        bool sound = par__utf8_length(text + at, n - at) > 0;
        for (end = at; end < n; end += k ? k : 1) {
            k = par__utf8_length(text + end, n - end);
            if ((k > 0) != sound) break;
        }
        PAR_TRY(sound ? run_stage(&r, 0, text + at, end - at, first && at == 0)
                      : visit(user, text + at, end - at));
    }
    return PAR_OK;
}
