/*
 * What lies in a directory of checkpoints, mutated: see ../mutate.h. The digest of a manifest, and
 * in the manifest those of a shard, are made anew for the bytes, as who makes a file to do harm
 * does, so that what is behind them is reached. What is accepted is used: every tensor is read,
 * every file verified, and the model's configuration taken from the pairs.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "../mutate.h"
#include "agree.h"
#include "fixture.h"
#include "libpar/checkpoint/checkpoint.h"
#include "libpar/checkpoint/owner.h"

static fixture f;

/* ---- the manifest alone ---- */

/* Numbers that hold for whatever was accepted. */
static void check_contents(const par_checkpoint *c) {
    par_transformer_config config;
    par_config_pairs pairs;
    par_problems refused = {0}, notes = {0};
    int n_pairs, n_runs = 0;
    const par_checkpoint_pair *saved = par_checkpoint_pairs(c, &n_pairs);
    if (par_config_of_pairs("manifest", saved, n_pairs, &config) == PAR_OK)
        par_config_pairs_of(&config, &pairs);
    par__contents_compare(c, &(par_checkpoint_about){.n = n_pairs, .pairs = saved}, &refused,
                          &notes);
    CHECK(c->info.nbytes >= 0 && par__contents_memory(c) > 0, "%lld bytes",
          (long long)c->info.nbytes);
    for (int i = 0; i < c->n_tensors; i++) {
        const par_checkpoint_tensor *t = &c->tensors[i];
        int found = par__contents_find(c, t->kind, t->name, t->rank);
        CHECK(found >= 0 && strcmp(c->tensors[found].name, t->name) == 0, "%s is not found",
              t->name);
        CHECK(t->global[0] > 0 && t->global[1] > 0, "%s: an empty shape", t->name);
    }
    for (int i = 0; i < c->n_files; i++) {
        par__shard shard;
        CHECK_OK(par__contents_shard(c, i, &shard));
        n_runs += shard.n;
        par__shard_free(&shard);
    }
    CHECK(n_runs == c->n_stored, "%d runs in files, %d in all", n_runs, c->n_stored);
}

static int target_contents(const uint8_t *data, size_t n) {
    par_checkpoint *c = NULL;
    par__contents_parse_head("manifest", (const char *)data, n, &c);
    par_checkpoint_close(&c);
    if (par__contents_parse("manifest", (const char *)data, n, &c) != PAR_OK) return -1;
    check_contents(c);
    par_checkpoint_close(&c);
    return 0;
}

/* A checkpoint of train_llm's pairs. */
static void save_model(void) {
    static const par_transformer_config config = {.name = "tiny",
                                                  .vocab = 16,
                                                  .tokens = 8,
                                                  .positions = 8,
                                                  .layers = 2,
                                                  .channels = 8,
                                                  .heads = 2,
                                                  .kv_heads = 1,
                                                  .head_size = 4,
                                                  .mlp = 32,
                                                  .norm_eps = 1e-5f,
                                                  .rmsnorm = true,
                                                  .rope = true,
                                                  .rope_theta = 10000,
                                                  .swiglu = true};
    static par_config_pairs pairs;
    par_config_pairs_of(&config, &pairs);
    const par_checkpoint_params params = {.directory = f.directory,
                                          .step = 7,
                                          .consumed = 56,
                                          .updates = 7,
                                          .loss = 2.5,
                                          .validation = 3.5,
                                          .about = {.n = pairs.n, .pairs = pairs.pairs}};
    fixture_fill(&f, 7);
    CHECK_OK(par_checkpoint_save(f.world, &params, f.runs, FIXTURE_RUNS, &f.result));
}

static char *manifest_of(size_t *n) {
    char *text = fixture_read(fixture_path(&f, 7, "manifest.json"), n);
    if (!text) abort();
    return text;
}

static void contents(void) {
    size_t n;
    fixture_open(&f);
    save_model();
    char *text = manifest_of(&n);
    /* a range that begins at the last number */
    CHECK(mutate_replaced(target_contents, text, n, "\"first\":0",
                          "\"first\":9223372036854775807") == -1,
          "a range without an end");
    mutate_run("manifest", target_contents, text, n, 1500);
    free(text);
    fixture_close(&f);
}

/* Of version 1, which four ranks wrote. */
static void contents_1(void) {
    static const char path[] = "tests/fixtures/checkpoint-1/step_00000003/manifest.json";
    char other[128];
    size_t n;
    snprintf(other, sizeof other, "../%s", path);
    char *text = fixture_read(path, &n);
    if (!text) text = fixture_read(other, &n);
    CHECK(text && n < MUTATE_CAPACITY, "%s is not there, or has more than %d bytes", path,
          MUTATE_CAPACITY);
    if (text && n < MUTATE_CAPACITY) {
        /* files whose sum has no number */
        CHECK(mutate_replaced(target_contents, text, n, "\"nbytes\":21179",
                              "\"nbytes\":9223372036854775000") == -1,
              "files of 2^64 bytes");
        mutate_run("manifest-1", target_contents, text, n, 150);
    }
    free(text);
}

/* ---- the checkpoint's files ---- */

static void read_tensors(const par_checkpoint *c) {
    enum { MOST = 1 << 12 };
    static double dst[MOST];
    int n;
    const par_checkpoint_tensor *tensors = par_checkpoint_tensors(c, &n);
    for (int i = 0; i < n; i++) {
        int64_t extent[2] = {tensors[i].global[0], tensors[i].global[1]};
        for (int d = 0; d < 2; d++)
            if (extent[d] > 64) extent[d] = 64;
        par_checkpoint_read(c, &tensors[i], (int64_t[2]){0, 0}, extent, tensors[i].dtype, dst);
    }
}

/* The checkpoint as a training takes it; and, where the input is to be shown, as `par checkpoint`
 * does: the newest, verified, read. `index`: with its index, which libhdf5 makes anew for that. */
static int use(bool shown, bool index) {
    par_checkpoint *c = NULL;
    par_problems notes = {0};
    if (shown && par_checkpoint_open(f.directory, &notes, &c) == PAR_OK) {
        int n_files = par_checkpoint_info(c)->n_ranks;
        for (int i = 0; i < n_files + index && i < 8; i++) par_checkpoint_verify(c, i);
        read_tensors(c);
        par_checkpoint_close(&c);
    }
    return fixture_load_any(&f) == PAR_OK ? 0 : -1;
}

/* The manifest, with the tail that follows from its text [n]; there is room for that. */
static const char tail_begin[] = ",\n\"hash\": \"";
enum { TAIL = 64 };
static void write_manifest(char *text, size_t n) {
    char hash[PAR__HASH];
    par__hash(text, n, hash);
    n += (size_t)snprintf(text + n, TAIL, "%s%s\"\n}\n", tail_begin, hash);
    mutate_file(fixture_path(&f, 7, "manifest.json"), text, n);
}

static int target_manifest(const uint8_t *data, size_t n) {
    static char text[MUTATE_CAPACITY + TAIL];
    bool shown = mutate_shows(data, n);
    memcpy(text, data, n);
    write_manifest(text, n);
    return use(shown, true);
}

/* Without its tail. */
static void manifest(void) {
    size_t n;
    fixture_open(&f);
    save_model();
    char *text = manifest_of(&n), *tail = strstr(text, tail_begin);
    CHECK(tail, "the manifest has another form");
    if (tail) mutate_run("manifest-files", target_manifest, text, (size_t)(tail - text), 250);
    free(text);
    fixture_close(&f);
}

/* A manifest without its tail, and where in it the shard's size and digests stand: to write them
 * there is faster than to make the manifest of each shard anew. */
static struct {
    char text[MUTATE_CAPACITY];
    size_t n;
    char *size, *frame, *arrays[2];
} agreed;
enum { SIZE = 8 }; /* digits, and spaces behind them */

/* From a sound shard. False: the manifest has another form. */
static bool agree_begin(const char *data, size_t n) {
    agree_digests d;
    char size[32];
    size_t k = 0;
    if (!agree_shard(&f, 7, data, n, AT, AT + A_NBYTES)) return false;
    agree_take(data, n, &d);
    snprintf(size, sizeof size, "\"nbytes\":%zu,", n);
    char *text = manifest_of(&k), *tail = strstr(text, tail_begin);
    char *shards = strstr(text, "\"shards\""), *at = shards ? strstr(shards, size) : NULL;
    bool good = at && tail > at && k + SIZE < sizeof agreed.text;
    if (good) {
        *tail = 0;
        at += strlen(size) - 1; /* the comma */
        agreed.n = (size_t)snprintf(agreed.text, sizeof agreed.text, "%.*s%*s%s", (int)(at - text),
                                    text, SIZE, "", at);
        agreed.size = agreed.text + (at - text) - strlen(size) + strlen("\"nbytes\":") + 1;
        agreed.frame = strstr(agreed.size, d.frame);
        for (int i = 0; i < 2; i++) agreed.arrays[i] = strstr(agreed.size, d.arrays[i]);
    }
    free(text);
    return good && agreed.frame && agreed.arrays[0] && agreed.arrays[1];
}

static void agree(const char *data, size_t n) {
    agree_digests d;
    char size[32];
    agree_take(data, n, &d);
    snprintf(size, sizeof size, "%-*zu", SIZE, n);
    memcpy(agreed.size, size, SIZE);
    memcpy(agreed.frame, d.frame, PAR__HASH - 1);
    for (int i = 0; i < 2; i++) memcpy(agreed.arrays[i], d.arrays[i], PAR__HASH - 1);
    write_manifest(agreed.text, agreed.n);
}

static int target_shard(const uint8_t *data, size_t n) {
    if (n <= AT + A_NBYTES + B_NBYTES) return -1;
    mutate_file(fixture_path(&f, 7, "rank_00000.h5"), data, n);
    agree((const char *)data, n);
    if (use(mutate_shows(data, n), false) != 0) return -1;
    CHECK(memcmp(f.a, data + AT, A_NBYTES) == 0, "other bytes than its own");
    return 0;
}

static void shard(void) {
    size_t n = 0;
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 7, 0));
    char *data = fixture_read(fixture_path(&f, 7, "rank_00000.h5"), &n);
    CHECK(data && n < MUTATE_CAPACITY, "rank_00000.h5 has %zu bytes", n);
    CHECK(data && agree_begin(data, n), "the manifest has another form");
    if (!harness_failed()) mutate_run("shard", target_shard, data, n, 250);
    free(data);
    fixture_close(&f);
}

/* Index and manifest agree: what the index says is compared with what follows from the manifest,
 * the same for all of them, and not read. */
static struct {
    char *bytes;
    size_t n;
} follows;

static int target_index(const uint8_t *data, size_t n) {
    bool same =
        par__index_same("index.h5", (const char *)data, n, follows.bytes, follows.n) == PAR_OK;
    CHECK(same == (n == follows.n && memcmp(data, follows.bytes, n) == 0), "another answer");
    return same ? 0 : -1;
}

static void index_file(void) {
    par_checkpoint *c = NULL;
    size_t n = 0;
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 7, 0));
    CHECK_OK(par_checkpoint_open(f.directory, NULL, &c));
    if (c) CHECK_OK(par__index_again(c, &follows.bytes, &follows.n));
    char *data = fixture_read(fixture_path(&f, 7, "index.h5"), &n);
    CHECK(data && n < MUTATE_CAPACITY, "index.h5 has %zu bytes", n);
    if (data && c) {
        CHECK_OK(par__index_compare("index.h5", data, n, c));
        data[n / 2] ^= 1;
        CHECK(par__index_compare("index.h5", data, n, c) == PAR_ERR_FORMAT, "a flipped bit");
        data[n / 2] ^= 1;
        mutate_run("index", target_index, data, n, 2000);
    }
    free(data);
    free(follows.bytes);
    par_checkpoint_close(&c);
    fixture_close(&f);
}

/* ---- who owns the directory ---- */

static int target_owner(const uint8_t *data, size_t n) {
    char text[PAR__CLAIM_TEXT], name[320];
    par__claimant who;
    bool there;
    if (par__claim_read(mutate_file("owner.00000001", data, n), &there, text, &who) != PAR_OK)
        return -1;
    CHECK(there && strlen(text) < sizeof text, "the file is there");
    par__claimant_text(&who, name);
    if (!who.pid) return -1;
    CHECK(who.beat_s > 0 && who.beat_s <= 1e6, "a wait of %g s", who.beat_s);
    par__claimant_dead(&who);
    return 0;
}

static void owner(void) {
    par__claimant self;
    char text[PAR__CLAIM_TEXT];
    bool made = false;
    size_t n;
    par__claimant_self(&self);
    self.beat_s = 10;
    CHECK_OK(par__random_id(self.token));
    CHECK_OK(par__claim_create(mutate_path("claim"), &self, &made));
    char *claim = fixture_read(mutate_path("claim"), &n);
    CHECK(made && claim && n < sizeof text, "no claim was made");
    if (claim) mutate_run("owner", target_owner, claim, n, 2000);
    free(claim);
    mutate_end();
}

/* The folders that libpar makes are in memory, too: making and removing one on a disk takes longer
 * than all the rest. */
int main(int argc, char **argv) {
    if (access("/dev/shm", W_OK | X_OK) == 0) setenv("TMPDIR", "/dev/shm", 0);
    static const harness_case cases[] = {
        {"contents", contents, 0, NULL, 0}, {"contents-1", contents_1, 0, NULL, 0},
        {"manifest", manifest, 0, NULL, 0}, {"shard", shard, 0, NULL, 0},
        {"index", index_file, 0, NULL, 0},  {"owner", owner, 0, NULL, 0}};
    return harness_main("fuzz-checkpoint", cases, HARNESS_COUNT(cases), argc, argv);
}
