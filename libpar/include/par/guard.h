/*
 * Files that become shorter while libpar reads them. Token files, weights and texts are mapped into
 * memory; where another process truncates one, the kernel answers the next read by SIGBUS, which
 * ends the process without a word.
 */
#ifndef PAR_GUARD_H
#define PAR_GUARD_H

#include "par/export.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Catch SIGBUS in files that libpar has mapped: whoever reads one gets zeros there, and then
 * PAR_ERR_IO with the file's name instead of what it read. Any other SIGBUS goes to the handler
 * that was there before. libpar installs none unless this is called; once per process is enough.
 * The handler runs on the thread's alternate stack, if it has one.
 *
 * Not collective. Errors: PAR_ERR_UNSUPPORTED: the handler could not be installed.
 */
PAR_API par_status par_guard_files(void);

#ifdef __cplusplus
}
#endif
#endif
