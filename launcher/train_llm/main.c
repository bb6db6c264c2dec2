/*
 * train_llm: train a GPT or a Llama over tp x pp x dp ranks.
 *
 *     mpirun -n 64 ./train_llm --tp 2 --pp 4 --dp 8
 *
 * In order: what depends on the options alone (no communication), what depends on files (one
 * agreement), the trainer, the loop. Every rank leaves with the same exit code; rank 0 alone
 * prints. What fails on one rank alone breaks the transport: then rank 0 prints the cause and ends
 * the job.
 */
#include <stdio.h>
#include <stdlib.h>

#include "observe.h"
#include "process.h"

/* Once the first step has begun, no failure is one of options or input. */
static int exit_code(par_status st, bool began) {
    switch (st) {
    case PAR_OK: return EXIT_OK;
    case PAR_ERR_STOPPED: return EXIT_STOPPED;
    case PAR_ERR_NUMERIC: return EXIT_NONFINITE;
    case PAR_ERR_ARG:
    case PAR_ERR_OPTION:
    case PAR_ERR_LAYOUT:
    case PAR_ERR_FORMAT:
    case PAR_ERR_IO:
    case PAR_ERR_UNSUPPORTED: return began ? EXIT_RUNTIME : EXIT_INPUT;
    default: return EXIT_RUNTIME;
    }
}

static void report_end(const llm_run *r, const char *title, const char *text) {
    char advice[sizeof r->newest * 2 + 128];
    llm_report_problems(title, text);
    llm_run_advise(r, advice, sizeof advice);
    if (*advice) fprintf(stderr, "  %s\n", advice);
}

/* What a training prints is in its log, too; of what else runs it is all that there is. */
static int code_of_output(const llm_run *r, int code) {
    bool lost = !process_printed("train_llm");
    if (lost && !r->trains && code == EXIT_OK) code = EXIT_RUNTIME;
    llm_world_share(&code, sizeof code);
    return code;
}

static _Noreturn void leave(const llm_run *r, int code, bool broken) {
    llm_watch_end();
    if (!broken) {
        code = code_of_output(r, code);
        llm_world_meet();
        llm_run_leave(); /* no rank has its page there any more */
    }
    llm_world_end(code, broken);
    exit(code);
}

/* `tells`: this rank prints what is wrong. `alone`: peers do not know of it, and may be waiting for
 * this rank. */
static _Noreturn void end(par_status st, const llm_run *r, bool tells, bool alone) {
    char text[PAR_ERROR_NBYTES + 256], options[256] = "";
    if (st == PAR_ERR_UNSUPPORTED) /* what the library refuses by fields' values, not by options' */
        llm_settle_option_names(par_error(), options, sizeof options);
    snprintf(text, sizeof text, "%s%s", par_error(), options);
    if (st != PAR_OK && st != PAR_ERR_STOPPED && (tells || alone))
        report_end(r, par_status_text(st), text);
    leave(r, alone ? EXIT_BROKEN : exit_code(st, r->began), alone);
}

/* On all ranks or on none, before there is a transport: what is wrong on one host alone, as another
 * libhdf5 there, ends all. The lowest rank that has something to say says it. */
static void agree(const llm_run *r, const llm_world *w, par_status st) {
    int first = llm_world_refuses(w, &st);
    if (st == PAR_OK) return;
    if (first > 0 && first == w->rank) {
        static char why[PAR_ERROR_NBYTES];
        snprintf(why, sizeof why, "%s", par_error());
        (void)par_error_set(st, "on rank %d alone, or on some others too:\n%s", first, why);
    }
    end(st, r, w->rank == first, false);
}

/* One process for all ranks: what is wrong with the options, and with the files if they must be
 * here. */
static par_status settle_alone(llm_run *r, int world_size, par_problems *problems) {
    const llm_settings *s = &r->set;
    par_import *import = NULL;
    par_status st = s->import ? par_import_open(s->import, &import) : PAR_OK;
    if (st != PAR_OK) par_problem(problems, "--import: %s", par_error());
    if (import) llm_settle_import(r, import);
    par_import_close(&import);
    if (llm_settle(r, world_size, problems) == PAR_ERR_MEMORY) return PAR_ERR_MEMORY;
    if (s->check_files) llm_files_check(r, problems);
    return par_problems_status(problems, PAR_ERR_OPTION);
}

/* The plan and the pictures of a run need no peers: a world as large as the layout says, also
 * without mpirun. */
static par_status dry_run(llm_run *r, int world_size, int rank, par_problems *problems) {
    const llm_settings *s = &r->set;
    const int64_t sizes[] = {s->tp, s->cp, s->pp, s->dp};
    int64_t product = 1;
    for (int i = 0; i < 4; i++) product *= sizes[i] && product < 1000000 ? sizes[i] : 1;
    if (world_size == 1) world_size = (int)(s->ranks ? s->ranks : product);
    PAR_TRY(settle_alone(r, world_size, problems));
    if (llm_settle_vocab_is_open(r))
        PAR_TRY(llm_settle_vocab(r, world_size, llm_generate_vocab(s)));
    int notes = r->notes.n;
    if (!s->check_files) llm_files_check(r, &r->notes);
    bool here = r->notes.n == notes;    /* all files that options name */
    PAR_TRY(llm_world_device_alone(s)); /* the plan has its kernels' workspaces */
    if (rank != 0) return PAR_OK;
    par_generator_params sample = {0};
    par_status st = llm_tokenizer_find_alone(r);
    if (st == PAR_OK) st = llm_generate_size(r, &sample);
    llm_tokenizer_free(&r->tokenizer);
    bool asked = llm_generate_is_asked_for(s);
    if (st != PAR_OK && here && asked) return st; /* as the run does */
    if (st != PAR_OK && asked)
        par_problem(&r->notes, "the sample is not in the plan: %s", par_error());
    PAR_TRY(llm_report_plan(r, world_size, &sample));
    llm_limits_print();
    if (s->device == LLM_CUDA) PAR_TRY(llm_methods_plan(r));
    if (s->show_mesh) llm_report_mesh(r, world_size);
    return s->gantt ? llm_report_gantt(r) : PAR_OK;
}

static par_status run_connected(llm_run *r, llm_world *w) {
    static const par_tag tag = {"vocabulary", -1, -1, -1};
    par_import *import = NULL;
    llm_generation *sample = NULL;
    static llm_data d;
    const llm_settings *s = &r->set;
    par_problems problems = {0};
    bool shows = s->show_mesh || s->gantt;
    par_status st = llm_world_device(w, s);
    if (st == PAR_OK) st = llm_world_threads(w, s->threads);
    if (st == PAR_OK && s->import) {
        st = llm_world_agree(w, par_import_open(s->import, &import));
        if (st == PAR_OK) llm_settle_import(r, import);
        if (st == PAR_OK) st = llm_world_agree(w, llm_settle(r, w->size, &problems));
    }
    if (st == PAR_OK && llm_settle_vocab_is_open(r)) {
        /* that of the tokenizer beside --data: rank 0 looks, all have its answer */
        int32_t vocab = w->rank == 0 ? (int32_t)llm_generate_vocab(s) : 0;
        st = par_comm_broadcast(w->comm, &vocab, 1, PAR_I32, 0, tag, NULL, NULL);
        if (st == PAR_OK) st = llm_world_agree(w, llm_settle_vocab(r, w->size, vocab));
    }
    if (st == PAR_OK && w->rank == 0) llm_report_run(r, w);
    if (st == PAR_OK && !shows && !s->sample) st = llm_data_open(r, w, &d);
    if (st == PAR_OK && !shows) st = llm_tokenizer_find(r, w, import);
    if (st == PAR_OK && !shows && !s->eval_only) st = llm_generate_open(r, w, import, &sample);
    llm_tokenizer_opened(&r->tokenizer);
    if (st == PAR_OK && shows) {
        if (s->show_mesh) st = llm_report_ranks(w, r);
        if (st == PAR_OK && s->gantt && w->rank == 0) st = llm_report_gantt(r);
        st = llm_world_agree(w, st);
    } else if (st == PAR_OK) {
        st = s->sample            ? llm_loop_generate(r, w, import, &sample)
             : s->verify_parallel ? llm_verify(r, w, &d)
             : s->eval_only       ? llm_loop_evaluate(r, w, &d, import)
                                  : llm_loop_train(r, w, &d, import, &sample);
    }
    llm_generate_close(&sample);
    llm_tokenizer_free(&r->tokenizer);
    llm_data_close(&d);
    par_import_close(&import);
    return st;
}

int main(int argc, char **argv) {
    static llm_run r;
    llm_world w = {0};
    par_problems problems = {0};
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    llm_signals_begin();
    if (llm_world_begin(&w, argc, argv) != EXIT_OK) return EXIT_RUNTIME;
    agree(&r, &w, llm_config_parse(&r, &w, argc, argv, &problems));
    llm_config_load(&r, &w, &problems);
    if (r.set.help || r.set.version || r.set.other_names) {
        static char text[65536];
        if (r.set.help)
            llm_help(text, sizeof text);
        else if (r.set.other_names)
            llm_help_other_names(text, sizeof text);
        else
            snprintf(text, sizeof text, "train_llm (libpar) %s\n", TRAIN_LLM_VERSION);
        if (w.rank == 0) printf("%s%s", text, r.set.help ? "\n" : "");
        leave(&r, EXIT_OK, false);
    }
    llm_settle_options(&r, &w, &problems);
    if (r.set.dry_run) end(dry_run(&r, w.size, w.rank, &problems), &r, w.rank == 0, false);
    llm_world_check_singletons(w.size, &problems);
    par_status st = PAR_OK;
    if (!r.set.import || problems.n) st = llm_settle(&r, w.size, &problems);
    agree(&r, &w, st);
    st = llm_run_make(&r, &w);
    if (st != PAR_OK) end(st, &r, w.rank == 0, false);
    llm_watch_begin(&r, &w);
    llm_watch_waits(true);
    st = llm_world_connect(&w, &r.set);
    llm_watch_waits(false);
    if (st == PAR_OK) llm_watch_transport(w.transport);
    if (st == PAR_OK) st = llm_world_talk(&w);
    if (st != PAR_OK) end(st, &r, true, true);
    st = run_connected(&r, &w);
    if (par_transport_broken(w.transport)) {
        /* Every rank has the cause. Rank 0 prints it and ends the job; where it does not, others
         * do. Nobody needs the watchdog's pages to know who failed. */
        llm_watch_end();
        llm_world_await_end(&w);
        report_end(&r, "a rank failed, which ends the job", par_transport_broken(w.transport));
        leave(&r, EXIT_BROKEN, true);
    }
    par_transformer_destroy(&r.model);
    llm_watch_end();
    llm_world_disconnect(&w);
    end(st, &r, w.rank == 0, false);
}
