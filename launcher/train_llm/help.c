/* What train_llm says about itself: --help, with the models and the recipes, and --other-names. */
#include <stdio.h>
#include <string.h>

#include "train_llm.h"

static const char usage[] =
    "usage: ./train_llm [options]                      one rank\n"
    "       mpirun -n RANKS ./train_llm [options]      tp x pp x dp = RANKS\n"
    "Trains a transformer with tensor, pipeline and data parallelism.\n"
    "Exit codes: 0 done, 1 failed while running, 2 bad options or input, 3 stopped by numbers "
    "that\n"
    "are not finite, 4 stopped by a signal, a stop file, --exit-after or --budget, 5 a rank "
    "failed\n"
    "and ended the job, 6 the run stood still.\n"
    "--no-x turns a switch off; of two equal options the last one wins.";

/* "  gpt2-124m         124.44 M parameters, 12 layers, ... (openai-community/gpt2)" */
static int print_model(const par_transformer_config *c, const char *hub, char *text,
                       size_t nbytes) {
    double n = (double)par_transformer_n_params(c);
    return snprintf(text, nbytes,
                    "  %-15s %7.2f %s parameters, %lld layers, %lld channels, %lld "
                    "tokens, vocabulary %lld%s%s%s\n",
                    c->name, n < 1e9 ? 1e-6 * n : 1e-9 * n, n < 1e9 ? "M" : "B",
                    (long long)c->layers, (long long)c->channels, (long long)c->tokens,
                    (long long)c->vocab, hub ? " (" : "", hub ? hub : "", hub ? ")" : "");
}

void llm_help(char *text, size_t nbytes) {
    static llm_settings s;
    par_option table[LLM_MAX_OPTIONS];
    par_transformer_config c;
    par_options_help(table, llm_options_rows(&s, table), usage, text, nbytes);
    size_t used = strlen(text);
    used += (size_t)snprintf(text + used, nbytes - used, "\nModels\n");
    used += (size_t)print_model(&llm_small, NULL, text + used, nbytes - used);
    for (int i = 0; par_transformer_preset_name(i) && used < nbytes; i++)
        if (par_transformer_preset(par_transformer_preset_name(i), &c) == PAR_OK)
            used +=
                (size_t)print_model(&c, par_transformer_preset_hub(i), text + used, nbytes - used);
    used = strlen(text);
    llm_recipe_list(text + used, nbytes - used);
}

void llm_help_other_names(char *text, size_t nbytes) {
    static llm_settings s;
    par_option table[LLM_MAX_OPTIONS];
    par_options_others(table, llm_options_rows(&s, table), text, nbytes);
}
