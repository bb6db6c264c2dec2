/* How far ranks are apart. */
#include "report.h"

void report_health(report_page *p, const report_run *run) {
    (void)run;
    report_missing(
        p, "The log has no times of every rank; they come with:", "train_llm --health-every STEPS");
}
