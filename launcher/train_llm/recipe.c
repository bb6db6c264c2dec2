/*
 * Published hyperparameters, by the name of the model that they are of. A recipe is a piece of a
 * configuration file: keys that neither the command line nor --config has get its values. It says
 * nothing about the model, the layout or the length of a training, and what it set is printed.
 */
#include <stdio.h>
#include <string.h>

#include "train_llm.h"

/* Brown et al. 2020, appendix B and table 2.1: GPT-3's models of GPT-2's sizes. The warm-up of 375 M
 * tokens is 715 batches of 512 x 1024. GPT-2's own rates are not published. */
#define GPT(LR, MIN)                                                                               \
    "optimizer = adamw\nlr = " LR "\nmin-lr = " MIN                                                \
    "\nlr-schedule = cosine\nwarmup = 715\nbeta1 = 0.9\nbeta2 = 0.95\neps = 1e-8\n"                \
    "weight-decay = 0.1\nclip = 1\n"
#define GPT_SOURCE "GPT-3's of this size (Brown et al. 2020); batch of GPT-2"
/* Dubey et al. 2024, table 3 and section 3.4.1: rates, warm-up, 4 M tokens as the first batch. The
 * decay is to a hundredth. Betas, eps, weight decay and clipping are those of Touvron et al. 2023. */
#define LLAMA(LR, MIN)                                                                             \
    "optimizer = adamw\nlr = " LR "\nmin-lr = " MIN                                                \
    "\nlr-schedule = cosine\nwarmup = 8000\ntokens = 4096\nbatch = 1024\nbeta1 = 0.9\n"            \
    "beta2 = 0.95\neps = 1e-5\nweight-decay = 0.1\nclip = 1\n"
#define LLAMA_SOURCE "Llama 3's (Dubey et al. 2024); betas, eps, decay, clipping of Llama 2"
/* Allal et al. 2025, sections 4.1 and 6: rates, schedules, lengths, batches in tokens. */
#define SMOLLM2(LR, BATCH)                                                                         \
    "optimizer = adamw\nlr = " LR                                                                  \
    "\nmin-lr = 0\nlr-schedule = wsd\nwarmup = 2000\ntokens = 2048\nbatch = " BATCH                \
    "\nbeta1 = 0.9\nbeta2 = 0.95\n"

static const struct {
    const char *name, *source, *keys;
} recipes[] = {
    {"gpt2-124m", GPT_SOURCE, GPT("6e-4", "6e-5") "tokens = 1024\nbatch = 512\n"},
    {"gpt2-355m", GPT_SOURCE, GPT("3e-4", "3e-5") "tokens = 1024\nbatch = 512\n"},
    {"gpt2-774m", GPT_SOURCE, GPT("2.5e-4", "2.5e-5") "tokens = 1024\nbatch = 512\n"},
    {"gpt2-1.5b", GPT_SOURCE, GPT("2e-4", "2e-5") "tokens = 1024\nbatch = 512\n"},
    {"llama3-8b", LLAMA_SOURCE, LLAMA("3e-4", "3e-6")},
    {"llama3-70b", LLAMA_SOURCE, LLAMA("1.5e-4", "1.5e-6")},
    {"smollm2-135m", "SmolLM2's (Allal et al. 2025)", SMOLLM2("3e-3", "512")},
    {"smollm2-360m", "SmolLM2's (Allal et al. 2025)", SMOLLM2("3e-3", "512")},
    {"smollm2-1.7b", "SmolLM2's (Allal et al. 2025)", SMOLLM2("5e-4", "1024")},
    /* Bai et al. 2023, section 2.4 and table 1; Qwen2.5's own values are not published. */
    {"qwen", "Qwen's of all sizes (Bai et al. 2023); Qwen2.5's are not published",
     "optimizer = adamw\nlr = 3e-4\nmin-lr = 3e-5\nlr-schedule = cosine\ntokens = 2048\n"
     "batch = 2048\nbeta1 = 0.9\nbeta2 = 0.95\neps = 1e-8\nprecision = bf16\n"},
};

enum { N_RECIPES = sizeof recipes / sizeof *recipes };

static int find(const char *name) {
    par_transformer_config c;
    /* the names that a model has on the hub are those of its recipe, too */
    if (par_transformer_preset(name, &c) == PAR_OK) name = c.name;
    for (int i = 0; i < N_RECIPES; i++)
        if (strcmp(recipes[i].name, name) == 0) return i;
    return -1;
}

static void unknown(const char *name, par_problems *problems) {
    char names[512] = "";
    for (int i = 0; i < N_RECIPES; i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? ", " : "",
                 recipes[i].name);
    par_problem(problems, "--recipe %s: is not one of the recipes; legal: %s", name, names);
}

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
    bool given[LLM_MAX_OPTIONS];
    if (!r->set.recipe) return;
    int i = find(r->set.recipe);
    if (i < 0) {
        unknown(r->set.recipe, problems);
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
