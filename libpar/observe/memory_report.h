/*
 * The file on memory, see par/memory_report.h: made by memory_watch.c, read by memory_read.c,
 * printed by memory_print.c, drawn by memory_flame.c.
 */
#ifndef PAR__OBSERVE_MEMORY_REPORT_H
#define PAR__OBSERVE_MEMORY_REPORT_H

#include "par/memory_report.h"
#include "topology.h"

#define PAR__MEMORY_FORM "libpar memory 1"

/* A detail's tensor with its line, where the line says more than the kind: "mlp.up (slots)". */
void par__memory_tensor(const par_memory_book *book, const par_memory_detail *detail,
                        char text[128]);
/* "7.00 MiB". */
const char *par__memory_bytes(double nbytes, char text[32]);

#endif
