/* What pages of HTML are made of, see report.h: escaped text, tables, numbers with units. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "par_tool.h"
#include "report.h"

void report_put(report_page *p, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vfprintf(p->out, format, args);
    va_end(args);
}

/* Bytes that are not UTF-8 stay: a browser shows them as such, and none of them ends a tag. */
void report_put_text(report_page *p, const char *text) {
    static const char *const entities[256] = {
        ['<'] = "&lt;", ['>'] = "&gt;", ['&'] = "&amp;", ['"'] = "&quot;", ['\''] = "&#39;"};
    for (; *text; text++) {
        const char *entity = entities[(unsigned char)*text];
        if (entity)
            fputs(entity, p->out);
        else
            fputc(*text, p->out);
    }
}

void report_put_json(report_page *p, const char *text) {
    fputc('"', p->out);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || strchr("\"\\<>&", c))
            fprintf(p->out, "\\u%04x", c);
        else
            fputc(c, p->out);
    }
    fputc('"', p->out);
}

void report_put_number(report_page *p, double value) {
    if (isfinite(value))
        fprintf(p->out, "%.9g", value);
    else
        fputs("null", p->out);
}

par_status report_page_begin(report_page *p, const char *title) {
    *p = (report_page){0};
    p->out = open_memstream(&p->text, &p->nbytes);
    if (!p->out) return par_error_set(PAR_ERR_MEMORY, "no host memory for a page");
    /* the policy keeps a page from ever asking for anything */
    report_put(p, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                  "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                  "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                  "<meta name=\"color-scheme\" content=\"light dark\">\n<title>");
    report_put_text(p, title);
    report_put(p, "</title>\n<style>\n%s</style></head>\n<body>\n", report_css);
    return PAR_OK;
}

par_status report_page_end(report_page *p, const char *path) {
    par_status st = PAR_OK;
    if (p->in_section) report_put(p, "</section>\n");
    report_put(p, "</main>\n<script>\n%s</script>\n</body></html>\n", report_js);
    bool whole = !ferror(p->out);
    whole = fclose(p->out) == 0 && whole;
    if (!whole)
        st = par_error_set(PAR_ERR_MEMORY, "no host memory for a page");
    else if (path)
        st = par_tool_write(path, p->text, p->nbytes);
    free(p->text);
    *p = (report_page){0};
    return st;
}

void report_section(report_page *p, const char *id, const char *title) {
    report_put(p, "%s<section id=\"%s\">\n<h2>%s</h2>\n", p->in_section ? "</section>\n" : "", id,
               title);
    p->in_section = true;
}

void report_missing(report_page *p, const char *what, const char *how) {
    report_put(p, "<p class=\"missing\">");
    report_put_text(p, what);
    report_put(p, " <code>");
    report_put_text(p, how);
    report_put(p, "</code></p>\n");
}

void report_note(report_page *p, const char *format, ...) {
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    report_put(p, "<p class=\"note\">");
    report_put_text(p, text);
    report_put(p, "</p>\n");
}

/* ---- tables ---- */

void report_table_begin(report_page *p, const char *const *heads, int n) {
    report_put(p, "<div class=\"scroll\"><table><thead><tr>");
    for (int i = 0; i < n; i++) {
        bool number = heads[i][0] == '#';
        report_put(p, "<th scope=\"col\"%s>", number ? " class=\"number\"" : "");
        report_put_text(p, heads[i] + number);
        report_put(p, "</th>");
    }
    report_put(p, "</tr></thead>\n<tbody>");
}

void report_row(report_page *p) {
    report_put(p, "\n<tr>");
}

/* A short text is not broken. */
void report_cell(report_page *p, const char *text) {
    report_put(p, strlen(text) < 20 ? "<td class=\"short\">" : "<td>");
    report_put_text(p, text);
}

void report_cell_number(report_page *p, double sorts_as, const char *text) {
    report_put(p, "<td class=\"number\" data-value=\"");
    report_put_number(p, sorts_as);
    report_put(p, "\">");
    report_put_text(p, text);
}

void report_table_end(report_page *p) {
    report_put(p, "\n</tbody></table></div>\n");
}

void report_put_pairs(report_page *p, const report_pairs *list, const char *what) {
    const char *const heads[] = {what, ""};
    report_table_begin(p, heads, 2);
    for (int i = 0; i < list->n; i++) {
        char name[128], value[REPORT_TEXT];
        if (strcmp(list->pairs[i].name, "event") == 0) continue;
        snprintf(name, sizeof name, "%s", list->pairs[i].name);
        for (char *c = name; *c; c++)
            if (*c == '_') *c = ' ';
        report_row(p);
        report_cell(p, name);
        report_cell(p, report_short(list->pairs[i].value, value));
    }
    report_table_end(p);
}

/* ---- numbers ---- */

const char *report_plain(double value, char text[REPORT_TEXT]) {
    if (isnan(value))
        snprintf(text, REPORT_TEXT, "-");
    else
        snprintf(text, REPORT_TEXT, "%.6g", value);
    return text;
}

const char *report_short(const char *value, char text[REPORT_TEXT]) {
    char *end;
    double number = strtod(value, &end);
    if (strlen(value) < 15 || *end) return value;
    snprintf(text, REPORT_TEXT, "%.9g", number);
    return text;
}

const char *report_four(double value, char text[REPORT_TEXT]) {
    if (isnan(value)) return report_plain(value, text);
    snprintf(text, REPORT_TEXT, "%.4g", value);
    return text;
}

/* "%.4g UNIT" in the largest unit that leaves at least 1. */
static const char *scaled(double value, double base, const char *const *units, int n,
                          char text[REPORT_TEXT]) {
    int i = 0;
    if (isnan(value)) return report_plain(value, text);
    for (; fabs(value) >= base * (1 - 5e-5) && i < n - 1; i++) value /= base;
    snprintf(text, REPORT_TEXT, "%.4g%s%s", value, *units[i] ? " " : "", units[i]);
    return text;
}

const char *report_count(double value, char text[REPORT_TEXT]) {
    static const char *const units[] = {"", "k", "M", "B", "T"};
    return scaled(value, 1000, units, 5, text);
}

const char *report_bytes(double value, char text[REPORT_TEXT]) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    return scaled(value, 1024, units, 6, text);
}

const char *report_rate(double value, char text[REPORT_TEXT]) {
    static const char *const units[] = {"tok/s", "k tok/s", "M tok/s", "B tok/s"};
    return scaled(value, 1000, units, 4, text);
}

const char *report_percent(double value, char text[REPORT_TEXT]) {
    if (isnan(value)) return report_plain(value, text);
    if (value > 0 && value < 0.0005)
        snprintf(text, REPORT_TEXT, "< 0.1 %%");
    else
        snprintf(text, REPORT_TEXT, "%.3g %%", 100 * value);
    return text;
}

const char *report_seconds(double value, char text[REPORT_TEXT]) {
    static const char *const units[] = {"µs", "ms"};
    if (isnan(value)) return report_plain(value, text);
    long long s = (long long)fmin(fmax(value, 0) + 0.5, 1e15);
    if (fabs(value) < 0.99995 && value != 0) return scaled(value * 1e6, 1000, units, 2, text);
    if (value < 59.995)
        snprintf(text, REPORT_TEXT, "%.3g s", value);
    else if (s < 3600)
        snprintf(text, REPORT_TEXT, "%lld min %lld s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(text, REPORT_TEXT, "%lld h %lld min", s / 3600, s / 60 % 60);
    else
        snprintf(text, REPORT_TEXT, "%lld d %lld h", s / 86400, s / 3600 % 24);
    return text;
}
