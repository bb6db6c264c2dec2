/*
 * HDF5 files that were made to harm who opens them, in the place of a checkpoint's files: links and
 * data that lie in other files, links in a circle, sizes without end, filters that are loaded from
 * elsewhere. Loading and verifying read bytes and digests, and give no file to libhdf5: its
 * functions that open one stand here, and count. Where the manifest agrees with such a file, what
 * is loaded is that file's own bytes; an index that says something else than its manifest is
 * refused, whatever it says.
 */
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../harness.h"
#include "agree.h"
#include "fixture.h"
#include "libpar/checkpoint/checkpoint.h"

enum { UNKNOWN_FILTER = 32123 };

static fixture f;
static int opened;

/* libhdf5's, which nobody may call. */
hid_t H5Fopen(const char *path, unsigned flags, hid_t access) {
    opened++;
    return -1;
}
hid_t H5Dopen2(hid_t from, const char *name, hid_t access) {
    opened++;
    return -1;
}
hid_t H5Oopen(hid_t from, const char *name, hid_t access) {
    opened++;
    return -1;
}

/* A data set "x" of 8 numbers, or of the shape, with this list. */
static herr_t add_set(hid_t file, hid_t list, const hsize_t *shape) {
    const hsize_t n = 8;
    hid_t space = H5Screate_simple(1, shape ? shape : &n, NULL);
    hid_t set = H5Dcreate2(file, "x", H5T_IEEE_F32LE, space, H5P_DEFAULT, list, H5P_DEFAULT);
    H5Sclose(space);
    H5Pclose(list);
    return set < 0 ? -1 : H5Dclose(set);
}

static herr_t add_virtual(hid_t file, const char *path) {
    const hsize_t n = 8;
    hid_t list = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, &n, NULL);
    herr_t st = H5Pset_virtual(list, space, path, "x", space);
    H5Sclose(space);
    return st < 0 ? st : add_set(file, list, NULL);
}

static herr_t add_external(hid_t file, const char *path) {
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    return H5Pset_external(list, path, 0, 32) < 0 ? -1 : add_set(file, list, NULL);
}

static herr_t add_chunked(hid_t file, int filter, const hsize_t *shape) {
    const hsize_t chunk = 4;
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    if (H5Pset_chunk(list, 1, &chunk) < 0) return -1;
    if (filter && H5Pset_filter(list, filter, H5Z_FLAG_OPTIONAL, 0, NULL) < 0) return -1;
    return add_set(file, list, shape);
}

static herr_t link_absolute(hid_t file) {
    return H5Lcreate_external("/etc/passwd", "/x", file, "x", H5P_DEFAULT, H5P_DEFAULT);
}
static herr_t link_upwards(hid_t file) {
    return H5Lcreate_external("../../secret.h5", "/x", file, "x", H5P_DEFAULT, H5P_DEFAULT);
}
static herr_t soft_circle(hid_t file) {
    herr_t st = H5Lcreate_soft("/y", file, "x", H5P_DEFAULT, H5P_DEFAULT);
    return st < 0 ? st : H5Lcreate_soft("/x", file, "y", H5P_DEFAULT, H5P_DEFAULT);
}
static herr_t storage_absolute(hid_t file) {
    return add_external(file, "/etc/passwd");
}
static herr_t storage_upwards(hid_t file) {
    return add_external(file, "../../secret");
}
static herr_t virtual_absolute(hid_t file) {
    return add_virtual(file, "/etc/secret.h5");
}
static herr_t virtual_upwards(hid_t file) {
    return add_virtual(file, "../../secret.h5");
}
static herr_t endless(hid_t file) {
    const hsize_t shape = (hsize_t)1 << 60;
    return add_chunked(file, 0, &shape);
}
static herr_t filtered(hid_t file) {
    return add_chunked(file, UNKNOWN_FILTER, NULL);
}

static const struct {
    const char *name;
    herr_t (*add)(hid_t file);
} kinds[] = {{"an external link, absolute", link_absolute},
             {"an external link, upwards", link_upwards},
             {"soft links in a circle", soft_circle},
             {"external storage, absolute", storage_absolute},
             {"external storage, upwards", storage_upwards},
             {"a virtual data set, absolute", virtual_absolute},
             {"a virtual data set, upwards", virtual_upwards},
             {"2^60 numbers", endless},
             {"a filter that is not there", filtered}};

enum { N_KINDS = sizeof kinds / sizeof *kinds };

/* Room for what a checkpoint would have. */
static herr_t add_filler(hid_t file) {
    const hsize_t n = 1024;
    hid_t list = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, &n, NULL);
    H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY);
    hid_t set = H5Dcreate2(file, "filler", H5T_STD_U8LE, space, H5P_DEFAULT, list, H5P_DEFAULT);
    H5Sclose(space);
    H5Pclose(list);
    return set < 0 ? -1 : H5Dclose(set);
}

/* In the place of what is there; its bytes, malloc'ed. */
static char *make(const char *path, int kind, H5F_libver_t least, size_t *n) {
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(access, least, H5F_LIBVER_LATEST);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    CHECK(file >= 0 && kinds[kind].add(file) >= 0 && add_filler(file) >= 0, "%s: cannot be made",
          kinds[kind].name);
    if (file >= 0) H5Fclose(file);
    H5Pclose(access);
    char *data = fixture_read(path, n);
    CHECK(data && *n > AT + A_NBYTES + B_NBYTES, "%s: has too few bytes", kinds[kind].name);
    return data;
}

/* A checkpoint of step 7, whose files are kept. */
static void begin(void) {
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 7, 0));
    opened = 0;
}

static void end(void) {
    CHECK(opened == 0, "libhdf5 was given %d files", opened);
    fixture_close(&f);
}

/* File number `file` of the checkpoint, the index behind the shards. */
static void verify_refuses(int file, const char *what, const char *text) {
    par_checkpoint *c = NULL;
    CHECK_OK(par_checkpoint_open(f.directory, NULL, &c));
    par_status st = c ? par_checkpoint_verify(c, file) : PAR_OK;
    CHECK(st == PAR_ERR_FORMAT && strstr(par_error(), text), "%s: %s: %s", what,
          par_status_text(st), par_error());
    par_checkpoint_close(&c);
}

static void as_a_shard(void) {
    size_t n;
    begin();
    for (int i = 0; i < N_KINDS; i++) {
        free(make(fixture_path(&f, 7, "rank_00000.h5"), i, H5F_LIBVER_LATEST, &n));
        CHECK(fixture_load(&f) == PAR_ERR_FORMAT && strstr(par_error(), "rank_00000.h5: "),
              "%s: %s", kinds[i].name, par_error());
        CHECK(fixture_poisoned(&f), "%s: memory was written", kinds[i].name);
        verify_refuses(0, kinds[i].name, "rank_00000.h5: ");
    }
    end();
}

static void as_the_index(void) {
    size_t n;
    begin();
    for (int i = 0; i < N_KINDS; i++) {
        free(make(fixture_path(&f, 7, "index.h5"), i, H5F_LIBVER_LATEST, &n));
        verify_refuses(1, kinds[i].name, "index.h5: its digest is ");
        CHECK_OK(fixture_load(&f)); /* which needs no index */
        CHECK(fixture_holds(&f, 7, 0), "%s: other numbers come back", kinds[i].name);
    }
    end();
}

static void agree(const char *data, size_t n, int64_t at_a, int64_t at_b) {
    CHECK(agree_shard(&f, 7, data, n, at_a, at_b), "the manifest has another form");
}

/* Who makes the manifest too gets his own bytes loaded, and nothing of another file. */
static void with_its_manifest(void) {
    size_t n;
    begin();
    for (int i = 0; i < N_KINDS; i++) {
        char *data = make(fixture_path(&f, 7, "rank_00000.h5"), i, H5F_LIBVER_LATEST, &n);
        if (!data) break;
        agree(data, n, AT, AT + A_NBYTES);
        CHECK_OK(fixture_load(&f));
        CHECK(memcmp(f.a, data + AT, A_NBYTES) == 0 &&
                  memcmp(f.b, data + AT + A_NBYTES, B_NBYTES) == 0,
              "%s: other bytes than its own", kinds[i].name);
        free(data);
    }
    end();
}

/* The manifest with the index's length and digest, and its own that follows. */
static void put_index(const char *image, size_t n) {
    static const char key[] = "\"index\": {", last[] = ",\n\"hash\": \"";
    const char *path = fixture_path(&f, 7, "manifest.json");
    char hash[PAR__HASH], *out;
    size_t size = 0;
    char *text = fixture_read(path, &size), *head = text ? strstr(text, key) : NULL;
    char *end = head ? strchr(head, '}') : NULL, *tail = end ? strstr(end, last) : NULL;
    CHECK(tail, "the manifest has another form");
    if (tail) {
        out = malloc(size += 256);
        par__hash(image, n, hash);
        int k = snprintf(out, size, "%.*s%s\"nbytes\": %zu, \"hash\": \"%s\"%.*s",
                         (int)(head - text), text, key, n, hash, (int)(tail - end), end);
        par__hash(out, (size_t)k, hash);
        k += snprintf(out + k, size - (size_t)k, "%s%s\"\n}\n", last, hash);
        fixture_write(path, out, (size_t)k);
        free(out);
    }
    free(text);
}

static void index_refused(const char *what, const char *image, size_t n) {
    put_index(image, n);
    verify_refuses(
        1, what, "index.h5: is not the index that this libhdf5 makes of its manifest, from byte ");
    CHECK_OK(fixture_load(&f));
    CHECK(fixture_holds(&f, 7, 0), "%s: other numbers come back", what);
}

static void index_with_its_manifest(void) {
    size_t n;
    begin();
    for (int i = 0; i < N_KINDS; i++) {
        char *data = make(fixture_path(&f, 7, "index.h5"), i, H5F_LIBVER_LATEST, &n);
        if (data) index_refused(kinds[i].name, data, n);
        free(data);
    }
    end();
}

/* Of the array a, one thing that the index may say of it and the manifest does not. */
static void another_name(par_checkpoint_tensor *t, par__stored *stored) {
    (void)stored;
    t->name = "c";
}
static void another_shape(par_checkpoint_tensor *t, par__stored *stored) {
    (void)stored;
    t->global[0]++;
}
static void another_type(par_checkpoint_tensor *t, par__stored *stored) {
    (void)stored;
    t->dtype = PAR_I32;
}
static void another_file(par_checkpoint_tensor *t, par__stored *stored) {
    (void)t;
    stored->file++;
}
static void another_source(par_checkpoint_tensor *t, par__stored *stored) {
    (void)t;
    stored->run.kind = "state", stored->run.name = "b";
}
static void another_place(par_checkpoint_tensor *t, par__stored *stored) {
    (void)t;
    stored->run.offset[0]++;
    stored->run.n = --stored->run.extent[0];
    stored->run.local[0]--;
}

static const struct {
    const char *name;
    void (*change)(par_checkpoint_tensor *t, par__stored *stored);
} changes[] = {{"another name", another_name},     {"another shape", another_shape},
               {"another type", another_type},     {"another file", another_file},
               {"another source", another_source}, {"another place", another_place}};

/* libpar's own index of something else than the manifest says; and its own index, cut, longer. */
static void forged_index(void) {
    char path[600];
    size_t n, n_own;
    begin();
    snprintf(path, sizeof path, "%s", fixture_path(&f, 7, "index.h5"));
    char *own = fixture_read(path, &n_own), *longer = own ? calloc(1, n_own + 1) : NULL;
    for (size_t i = 0; own && i < sizeof changes / sizeof *changes; i++) {
        par_checkpoint *c = NULL;
        CHECK_OK(par_checkpoint_open(f.directory, NULL, &c));
        int a = c ? par__contents_find(c, "weight", "a", -1) : -1;
        for (int k = 0; a >= 0 && k < c->n_stored; k++)
            if (c->stored[k].tensor == a) changes[i].change(&c->tensors[a], &c->stored[k]);
        CHECK(a >= 0 && unlink(path) == 0, "no index, or no array in it");
        CHECK_OK(par__index_layout(path, c));
        par_checkpoint_close(&c);
        char *data = fixture_read(path, &n);
        if (data) index_refused(changes[i].name, data, n);
        free(data);
    }
    if (longer) memcpy(longer, own, n_own);
    for (size_t size = n_own - 1; longer && size <= n_own + 1; size++) {
        fixture_write(path, longer, size);
        if (size != n_own) index_refused("another length", longer, size);
    }
    end();
    free(longer);
    free(own);
}

/* An older superblock, whose structure has no checksums; runs that lie elsewhere. */
static void refused_with_its_manifest(void) {
    static const int64_t places[][2] = {
        {-1, AT + A_NBYTES},        {0, AT + A_NBYTES},     {AT, AT},
        {AT, AT + A_NBYTES - 1},    {AT, (int64_t)1 << 40}, {AT, INT64_MAX},
        {INT64_MAX - 8, INT64_MIN}, {(int64_t)1 << 62, AT}};
    size_t n;
    begin();
    char *data = make(fixture_path(&f, 7, "rank_00000.h5"), 0, H5F_LIBVER_EARLIEST, &n);
    if (data) agree(data, n, AT, AT + A_NBYTES);
    CHECK_FAILS(fixture_load(&f), PAR_ERR_FORMAT, "has HDF5 superblock version 0; legal: 2, 3");
    verify_refuses(0, "an old superblock", "superblock version 0");
    free(data);
    data = make(fixture_path(&f, 7, "rank_00000.h5"), 0, H5F_LIBVER_LATEST, &n);
    for (size_t i = 0; data && i < sizeof places / sizeof *places; i++) {
        agree(data, n, places[i][0], places[i][1]);
        CHECK(fixture_load(&f) == PAR_ERR_FORMAT, "place %zu: %s", i, par_error());
        CHECK(fixture_poisoned(&f), "place %zu: memory was written", i);
    }
    free(data);
    end();
}

/* Not a plain file: nothing is waited for. */
static void a_pipe(void) {
    static const char *const names[] = {"rank_00000.h5", "manifest.json"};
    for (int i = 0; i < 2; i++) {
        begin();
        const char *path = fixture_path(&f, 7, names[i]);
        CHECK(unlink(path) == 0 && mkfifo(path, 0600) == 0, "%s cannot be made", path);
        CHECK_FAILS(fixture_load(&f), PAR_ERR_FORMAT, "is not a plain file");
        end();
    }
}

/* To import HDF5: as weights under another form's name, or under its own. */
static void imported(void) {
    static const char config[] =
        "{\"model_type\": \"gpt2\", \"architectures\": [\"GPT2LMHeadModel\"], \"n_layer\": 1, "
        "\"n_head\": 1, \"n_embd\": 8, \"n_positions\": 8, \"vocab_size\": 16}";
    static const char *const names[] = {"model.safetensors", "tf_model.h5"};
    static const char *const texts[] = {"model.safetensors", "TensorFlow's form"};
    char path[600];
    size_t n;
    begin();
    snprintf(path, sizeof path, "%s/config.json", f.directory);
    fixture_write(path, config, sizeof config - 1);
    for (int k = 0; k < 2; k++) {
        snprintf(path, sizeof path, "%s/%s", f.directory, names[k]);
        for (int i = 0; i < N_KINDS; i++) {
            par_import *import = NULL;
            free(make(path, i, H5F_LIBVER_LATEST, &n));
            par_status st = par_import_open(f.directory, &import);
            CHECK((st == PAR_ERR_FORMAT || st == PAR_ERR_UNSUPPORTED || st == PAR_ERR_IO) &&
                      strstr(par_error(), texts[k]),
                  "%s, %s: %s: %s", names[k], kinds[i].name, par_status_text(st), par_error());
            par_import_close(&import);
        }
        CHECK(unlink(path) == 0, "%s cannot be removed", path);
    }
    end();
}

static const harness_case cases[] = {
    {"as-a-shard", as_a_shard, 0, NULL, 0},
    {"as-the-index", as_the_index, 0, NULL, 0},
    {"with-its-manifest", with_its_manifest, 0, NULL, 0},
    {"index-with-its-manifest", index_with_its_manifest, 0, NULL, 0},
    {"forged-index", forged_index, 0, NULL, 0},
    {"refused-with-its-manifest", refused_with_its_manifest, 0, NULL, 0},
    {"a-pipe", a_pipe, 0, NULL, 0},
    {"imported", imported, 0, NULL, 0},
};

int main(int argc, char **argv) {
    return harness_main("checkpoint-malicious", cases, HARNESS_COUNT(cases), argc, argv);
}
