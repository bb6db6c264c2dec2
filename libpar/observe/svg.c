/* A page of SVG, see svg.h: written by an atomic writer, the first failure kept until the end. */
#include "svg.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "libpar/base/utf8.h"

void par__svg_put(par__svg *svg, const char *format, ...) {
    char text[1024];
    va_list args;
    if (svg->status != PAR_OK) return;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0 || n >= (int)sizeof text)
        svg->status = par_error_set(PAR_ERR_INTERNAL, "a piece of a page has %d bytes", n);
    else
        svg->status = par__writer_write(&svg->writer, text, (size_t)n);
}

void par__svg_put_escaped(par__svg *svg, const char *text) {
    const char *end = text + strlen(text);
    for (size_t n; text < end; text += n ? n : 1) {
        n = par__utf8_length(text, (size_t)(end - text));
        if (n == 0)
            par__svg_put(svg, "?");
        else if (*text == '<')
            par__svg_put(svg, "&lt;");
        else if (*text == '>')
            par__svg_put(svg, "&gt;");
        else if (*text == '&')
            par__svg_put(svg, "&amp;");
        else if (*text == '"')
            par__svg_put(svg, "&quot;");
        else if ((unsigned char)*text < 0x20)
            par__svg_put(svg, " ");
        else
            par__svg_put(svg, "%.*s", (int)n, text);
    }
}

bool par__svg_put_cut(par__svg *svg, const char *text, int n) {
    char cut[256];
    bool is_long = strlen(text) > (size_t)n;
    if (is_long)
        for (n--; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80;) n--;
    snprintf(cut, sizeof cut, "%.*s%s", n, text, is_long ? "…" : "");
    par__svg_put_escaped(svg, cut);
    return is_long;
}

par_status par__svg_begin(par__svg *svg, const char *path, int height, const char *title,
                          const char *style) {
    svg->status = PAR_OK;
    PAR_TRY(par__writer_open(path, &svg->writer));
    par__svg_put(svg,
                 "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 "
                 "0 %d %d\" "
                 "role=\"img\">\n"
                 "<style>\n"
                 "svg{color-scheme:light dark;font:13px system-ui,sans-serif}\n"
                 ".page{fill:#fff}.text{fill:#333}.title{fill:#111;font-weight:600;font-size:15px}"
                 ".grid{stroke:#ddd}\n"
                 "@media (prefers-color-scheme:dark){.page{fill:#14171a}.text{fill:#c8ccd0}"
                 ".title{fill:#f0f2f4}.grid{stroke:#33383d}}\n",
                 PAR__SVG_WIDTH, height, PAR__SVG_WIDTH, height);
    par__svg_put(svg, "%s</style>\n<title>", style);
    par__svg_put_escaped(svg, title);
    par__svg_put(svg,
                 "</title>\n<rect class=\"page\" width=\"%d\" height=\"%d\"/>\n"
                 "<text class=\"title\" x=\"%d\" y=\"26\">",
                 PAR__SVG_WIDTH, height, PAR__SVG_LEFT);
    par__svg_put_cut(svg, title, 76); /* as wide as the page */
    par__svg_put(svg, "</text>\n");
    return PAR_OK;
}

par_status par__svg_end(par__svg *svg) {
    par__svg_put(svg, "</svg>\n");
    if (svg->status == PAR_OK) return par__writer_commit(&svg->writer);
    par__writer_abort(&svg->writer);
    return svg->status;
}
