/*
 * Training on the cuda backend against the cpu backend: 20 losses of a GPT and a Llama, in fp32
 * within 1e-5. Both start from the same bits and add the same terms in other orders, which keeps
 * about sqrt(n) · 2^-24 relative of a sum of n terms (1e-6 for the longest chains here) and grows
 * little over 20 small steps. In bf16 every stored activation is rounded to 2^-9 relative, and
 * results that lie near a boundary may round to the other side: a loss is a mean over some 50
 * targets of log-sums over such logits, so single roundings average out; 2^-9 of the loss is one
 * rounding that does not. In fp16 (2^-12, the same way) the stand-in of cuBLASLt has no algorithm
 * with the gradient of a bias, so that the column sum of its own runs as well.
 *
 * By default the module is the one on stand-ins beside this program (tests/cuda), in a process of
 * its own for each of its modes, lazy and (in fp32) eager, which must have the same bits;
 * PAR_TEST_GPU=1 takes the real one.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "../harness.h"
#include "check.h"

enum { STEPS = 20 };

typedef struct {
    const char *name;
    int family; /* CHECK_GPT ... */
    par_dtype dtype;
    par_recompute recompute;
    double bound;
    bool apart; /* documents */
} setting;

static const setting settings[] = {
    {"gpt", CHECK_GPT, PAR_F32, PAR_RECOMPUTE_NONE, 1e-5, false},
    {"llama", CHECK_LLAMA, PAR_F32, PAR_RECOMPUTE_SELECTIVE, 1e-5, false},
    {"llama bf16", CHECK_LLAMA, PAR_BF16, PAR_RECOMPUTE_NONE, 1.0 / 512, false},
    {"gpt bf16", CHECK_GPT, PAR_BF16, PAR_RECOMPUTE_FULL, 1.0 / 512, false},
    {"qwen, documents apart", CHECK_QWEN, PAR_F32, PAR_RECOMPUTE_SELECTIVE, 1e-5, true},
    {"gpt fp16", CHECK_GPT, PAR_F16, PAR_RECOMPUTE_NONE, 1.0 / 4096, false},
};
enum { SETTINGS = sizeof settings / sizeof *settings, EAGER = 2 };

/* Losses, then the gradient norms, of one setting. */
typedef struct {
    double loss[STEPS], norm[STEPS];
} outcome;

static char program[1024];

static bool on_gpu(void) {
    const char *gpu = getenv("PAR_TEST_GPU");
    return gpu && strcmp(gpu, "1") == 0;
}

static par_status run_trainer(const par_trainer_params *params, const check_data *data,
                              outcome *out) {
    par_transport *self = NULL;
    par_trainer *t = NULL;
    par_source source = check_source(data);
    PAR_TRY(par_transport_create_self(NULL, &self));
    par_status st = par_trainer_create(self, params, &t);
    for (int i = 0; i < STEPS && st == PAR_OK; i++) {
        par_vote vote;
        st = par_trainer_step(t, &source, 1e-3f, false, &vote);
        out->loss[i] = vote.loss;
        out->norm[i] = vote.grad_norm;
    }
    par_trainer_destroy(&t);
    par_transport_destroy(&self);
    return st;
}

static par_status train(const setting *s, const char *backend, outcome *out) {
    par_transformer_config config;
    par_model *model = NULL;
    check_config(s->family, &config);
    config.layers = 1;     /* the emulator takes its time */
    config.dropout = 0.1f; /* the same elements on every backend */
    PAR_TRY(par_transformer_create(&config, &model));
    par_trainer_params params = check_params(model, 1, 1, 1, 2, 4);
    const check_data data = {.vocab = config.vocab, .T = config.tokens, .ignore = 7};
    params.backend = backend;
    params.dtype = s->dtype;
    params.recompute = s->recompute;
    params.documents_apart = s->apart;
    params.document_end = 10;
    par_status st = check_fit(&config, &params);
    if (st == PAR_OK) st = run_trainer(&params, &data, out);
    par_transformer_destroy(&model);
    return st;
}

/* The process that has the module: outcomes of all settings into a file, or the error's text. */
static int child(const char *path, int n_settings) {
    static outcome all[SETTINGS];
    FILE *file = fopen(path, "wb");
    if (!file) return 1;
    for (int i = 0; i < n_settings; i++) {
        par_status st = train(&settings[i], "cuda", &all[i]);
        if (st == PAR_OK) continue;
        fprintf(file, "%s: %s: %s", settings[i].name, par_status_text(st), par_error());
        fclose(file);
        return st == PAR_ERR_UNSUPPORTED ? 2 : 1;
    }
    size_t n = fwrite(all, sizeof *all, (size_t)n_settings, file);
    return fclose(file) == 0 && n == (size_t)n_settings ? 0 : 1;
}

/* As a process without MPI; 0, or its exit code with the text in `why`. */
static int train_apart(const char *mode, int n_settings, outcome *out, char *why, size_t nbytes) {
    char command[2300], path[] = "/tmp/par-cuda-XXXXXX";
    int fd = mkstemp(path), code = -1;
    if (fd < 0) return -1;
    snprintf(command, sizeof command, "PAR_STANDIN=%s '%s' --losses %s %d", mode, program, path,
             n_settings);
    FILE *file = fdopen(fd, "rb");
    int status = system(command);
    if (WIFEXITED(status)) code = WEXITSTATUS(status);
    size_t n = code == 0 ? fread(out, sizeof *out, (size_t)n_settings, file)
                         : fread(why, 1, nbytes - 1, file);
    if (code == 0 && n != (size_t)n_settings) code = -1;
    if (code != 0) why[code > 0 ? n : 0] = 0;
    fclose(file);
    remove(path);
    return code;
}

static void compare(const setting *s, const outcome *cuda, const outcome *cpu) {
    double largest = 0, norm = 0;
    for (int i = 0; i < STEPS; i++) {
        double d = check_relative(cuda->loss[i], cpu->loss[i]);
        if (!(d <= largest)) largest = d;
        norm = fmax(norm, check_relative(cuda->norm[i], cpu->norm[i]));
    }
    printf("# train_cuda: %s: largest relative difference of %d losses %.1e, of norms %.1e\n",
           s->name, STEPS, largest, norm);
    CHECK(largest <= s->bound, "%s: losses differ by %g, more than %g; the last are %.9g and %.9g",
          s->name, largest, s->bound, cuda->loss[STEPS - 1], cpu->loss[STEPS - 1]);
    CHECK(cpu->loss[STEPS - 1] < cpu->loss[0], "%s: the cpu's loss does not fall", s->name);
}

static void run_losses(par_transport *transport) {
    static outcome lazy[SETTINGS], eager[SETTINGS];
    char why[1024] = "";
    (void)transport;
    int code = train_apart("lazy", SETTINGS, lazy, why, sizeof why);
    if (code == 2) {
        harness_skip("%s", why);
        return;
    }
    CHECK(code == 0, "the process with the module ended with %d: %s", code, why);
    code =
        on_gpu() || harness_failed() ? code : train_apart("eager", EAGER, eager, why, sizeof why);
    CHECK(code == 0, "eagerly the process with the module ended with %d: %s", code, why);
    for (int i = 0; i < SETTINGS && !harness_failed(); i++) {
        outcome cpu = {{0}, {0}};
        CHECK_OK(train(&settings[i], "cpu", &cpu));
        compare(&settings[i], &lazy[i], &cpu);
        CHECK(on_gpu() || i >= EAGER || memcmp(&lazy[i], &eager[i], sizeof lazy[i]) == 0,
              "%s: lazy and eager streams give other bits", settings[i].name);
    }
}

static const harness_case cases[] = {{"losses-of-the-cpu", NULL, 1, run_losses, 600}};

/* Beside this program unless a GPU or another folder is asked for. */
static void find_module(void) {
    char path[1100];
    const char *slash = strrchr(program, '/');
    if (on_gpu() || getenv("PAR_MODULE_PATH")) return;
    snprintf(path, sizeof path, "%.*s/cuda", slash ? (int)(slash - program) : 1,
             slash ? program : ".");
    setenv("PAR_MODULE_PATH", path, 1);
}

int main(int argc, char **argv) {
    snprintf(program, sizeof program, "%s", argv[0]);
    find_module();
    if (argc == 4 && strcmp(argv[1], "--losses") == 0) return child(argv[2], atoi(argv[3]));
    return harness_main_mpi("train_cuda", cases, HARNESS_COUNT(cases), argc, argv);
}
