/*
 * Published hyperparameters, by the name of the model that they are of. A recipe is a piece of a
 * configuration file: keys that neither the command line nor --config has get its values. It says
 * nothing about the model, the layout or the length of a training, and what it set is printed.
 */
#include <stdio.h>
#include <string.h>

#include "train_llm.h"

/* Brown et al. 2020, table 2.1 and appendix B: GPT-3's models of GPT-2's sizes. The warm-up is 375
 * M tokens. The length is GPT-2's (Radford et al. 2019), whose rates are not published. */
#define GPT3(LR, MIN, BATCH, WARMUP)                                                               \
    "optimizer = adamw\nlr = " LR "\nmin-lr = " MIN "\nlr-schedule = cosine\nwarmup = " WARMUP     \
    "\ntokens = 1024\nbatch = " BATCH "\nbeta1 = 0.9\nbeta2 = 0.95\neps = 1e-8\n"                  \
    "weight-decay = 0.1\nclip = 1\n"
#define GPT3_SOURCE "GPT-3's of this size, Brown et al. 2020; length of GPT-2"
/* Grattafiori et al. 2024, table 3 (rates) and section 3.4.1, which is of 405B; 8B and 70B have
 * "similar recipes". The rate comes down to a hundredth; the batch is the first, of 4 M tokens. */
#define LLAMA3(LR, MIN)                                                                            \
    "optimizer = adamw\nlr = " LR "\nmin-lr = " MIN                                                \
    "\nlr-schedule = cosine\nwarmup = 8000\ntokens = 4096\nbatch = 1024\n"
#define LLAMA3_SOURCE "rate of this size, the rest 405B's; Grattafiori et al. 2024"
/* Ben Allal et al. 2025, section 6: no batch, no warm-up. The decay takes 20 % of the steps, which
 * is the default of --decay-steps. */
#define SMOLLM2        "lr = 3e-3\nmin-lr = 0\nlr-schedule = wsd\n"
#define SMOLLM2_SOURCE "Ben Allal et al. 2025, which has no batch for this size"

static const struct {
    const char *name, *source, *keys;
} recipes[] = {
    {"gpt2-124m", GPT3_SOURCE, GPT3("6e-4", "6e-5", "512", "715")},
    {"gpt2-355m", GPT3_SOURCE, GPT3("3e-4", "3e-5", "512", "715")},
    {"gpt2-774m", GPT3_SOURCE, GPT3("2.5e-4", "2.5e-5", "512", "715")},
    {"gpt2-1.5b", GPT3_SOURCE, GPT3("2e-4", "2e-5", "1024", "358")},
    {"llama3-8b", LLAMA3_SOURCE, LLAMA3("3e-4", "3e-6")},
    {"llama3-70b", LLAMA3_SOURCE, LLAMA3("1.5e-4", "1.5e-6")},
    {"smollm2-135m", SMOLLM2_SOURCE, SMOLLM2},
    {"smollm2-360m", SMOLLM2_SOURCE, SMOLLM2},
    /* sections 4.1 and appendix A, table 6 */
    {"smollm2-1.7b", "Ben Allal et al. 2025; the decay took a tenth of the steps (--decay-steps)",
     "optimizer = adamw\nlr = 5e-4\nmin-lr = 0\nlr-schedule = wsd\nwarmup = 2000\ntokens = 2048\n"
     "batch = 1024\nbeta1 = 0.9\nbeta2 = 0.95\n"},
    /* the technical memo of QwenLM/Qwen, training details */
    {"qwen-7b", "the first Qwen's, its technical memo of 2023; Qwen2's and later are not published",
     "optimizer = adamw\nlr = 3e-4\nmin-lr = 3e-5\nlr-schedule = cosine\nwarmup = 2000\n"
     "tokens = 2048\nbatch = 2048\nbeta1 = 0.9\nbeta2 = 0.95\neps = 1e-6\nweight-decay = 0.1\n"
     "clip = 1\nprecision = bf16\n"},
};

enum { N_RECIPES = sizeof recipes / sizeof *recipes };

/* "gpt2 (whose): lr 0.0006, batch 512": the options that were not given before. */
static void describe(const llm_run *r, const bool *given, const char *source, char *text,
                     size_t nbytes) {
    size_t used = (size_t)snprintf(text, nbytes, "%s (%s)", r->set.recipe, source);
    const char *before = ":";
    for (int i = 0; i < r->n_options && used < nbytes; i++) {
        char value[64];
        if (given[i] || !r->options[i].given) continue;
        used += (size_t)snprintf(text + used, nbytes - used, "%s %s %s", before, r->options[i].name,
                                 par_option_text(&r->options[i], value, sizeof value));
        before = ",";
    }
}

void llm_recipe_apply(llm_run *r, par_problems *problems) {
    static char keys[1024]; /* values of options point into it */
    const char *name = r->set.recipe;
    bool given[LLM_MAX_OPTIONS];
    par_transformer_config c;
    int i = 0;
    if (!name) return;
    /* the names that a model has on the hub are those of its recipe, too */
    if (par_transformer_preset(name, &c) == PAR_OK) name = c.name;
    while (i < N_RECIPES && strcmp(recipes[i].name, name) != 0) i++;
    if (i == N_RECIPES) {
        char names[512] = "";
        for (int k = 0; k < N_RECIPES; k++)
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", k ? ", " : "",
                     recipes[k].name);
        par_problem(problems, "--recipe %s: is not one of the recipes; legal: %s", r->set.recipe,
                    names);
        return;
    }
    for (int k = 0; k < r->n_options; k++) given[k] = r->options[k].given;
    snprintf(keys, sizeof keys, "%s", recipes[i].keys);
    par_options_load(r->options, r->n_options, "recipe", keys, problems);
    describe(r, given, recipes[i].source, r->recipe, sizeof r->recipe);
}

void llm_recipe_list(char *text, size_t nbytes) {
    size_t used = (size_t)snprintf(text, nbytes, "\nRecipes\n");
    for (int i = 0; i < N_RECIPES && used < nbytes; i++)
        used += (size_t)snprintf(text + used, nbytes - used, "  %-15s %s\n", recipes[i].name,
                                 recipes[i].source);
}
