/* What a run cost: the last record of its log that has the sums. */
#include "report.h"

void report_cost(report_page *p, const report_run *run) {
    if (run->cost.n == 0) {
        report_missing(p,
                       "The log has no cost; it comes with:", "train_llm --price-per-hour PRICE");
        return;
    }
    report_put_pairs(p, &run->cost, "cost");
}
