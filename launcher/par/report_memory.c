/* Where the memory went. */
#include "report.h"

void report_memory(report_page *p, const report_run *run) {
    (void)run;
    report_missing(p, "There is no ledger of the ranks' memory; it is in the directory of:",
                   "train_llm --run DIR");
}
