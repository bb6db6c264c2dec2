/* Whether the files that options name are here: before ranks are started, all at once. A run says
 * of each what is wrong with it when it reads it. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "train_llm.h"

static void check_path(const char *option, const char *path, par_problems *problems) {
    if (path && access(path, R_OK) != 0)
        par_problem(problems, "--%s %s: cannot be read: %s", option, path, strerror(errno));
}

/* The model's, before it is settled; 0: not known. */
static int64_t vocab_alone(const llm_run *r) {
    if (r->guessed) return 0;
    int64_t beside = llm_settle_vocab_is_open(r) ? llm_generate_vocab(&r->set) : 0;
    return beside ? beside : r->config.vocab;
}

void llm_files_check(const llm_run *r, par_problems *problems) {
    const llm_settings *s = &r->set;
    const char *tokenizer = s->tokenizer;
    if (tokenizer && strncmp(tokenizer, "gpt2:", 5) == 0) tokenizer += 5;
    if (tokenizer && strncmp(tokenizer, "hf:", 3) == 0) tokenizer += 3;
    bool reads_data = !s->sample && !s->show_mesh && !s->gantt;
    if (reads_data && (s->check_files || llm_config_given(r, "data")))
        llm_data_check(r, vocab_alone(r), problems);
    if (tokenizer && strcmp(tokenizer, "bytes") != 0) check_path("tokenizer", tokenizer, problems);
    check_path("prompt-file", s->prompt_file, problems);
    if (!llm_resume_is_auto(s) || r->carried.first)
        check_path("resume", llm_resume_from(r), problems);
}
