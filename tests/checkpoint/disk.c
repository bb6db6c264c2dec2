/* Files and folders with what is safe and what is not yet: see disk.h. */
#define _GNU_SOURCE
#include "disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fixture.h"
#include "libpar/base/hash.h"

enum { NAMES = 64, CHANGES = 256, OPEN = 256, NODES = 1024 };

typedef struct node node;

/* Decides between what may be: all cases one after the other, or at random. */
typedef struct {
    bool random;
    uint64_t seed, draws; /* random */
    int digits[256], radix[256], n, used;
} chooser;

typedef struct {
    char name[96];
    node *node;
} entry;

/* Of a file: bytes, or a length. Of a folder: `name` means `node`, or, NULL, nothing any more; with
 * `from` it was called that before. */
typedef struct {
    record_kind kind;
    int64_t at, n;
    const char *data; /* the record's */
    char name[96], from[96];
    node *node;
} change;

struct node {
    bool folder;
    entry entries[NAMES]; /* safe, as all up to changes */
    int n_entries;
    unsigned char *data;
    int64_t n;
    change changes[CHANGES];
    int n_changes;
};

struct disk {
    node *root, *nodes[NODES];
    int n_nodes;
    struct {
        int pid, fd;
        node *node;
    } open[OPEN];
    int n_open;
};

static void *take(size_t nbytes) {
    void *p = calloc(1, nbytes ? nbytes : 1);
    if (!p) abort();
    return p;
}

static node *make_node(disk *d, bool folder) {
    if (d->n_nodes == NODES) abort();
    node *made = d->nodes[d->n_nodes++] = take(sizeof *made);
    made->folder = folder;
    return made;
}

/* ---- names ---- */

static int find_entry(const entry *entries, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(entries[i].name, name) == 0) return i;
    return -1;
}

static void set_entry(entry *entries, int *n, const char *name, node *to) {
    int at = find_entry(entries, *n, name);
    if (at < 0 && to) {
        if (*n == NAMES) abort();
        at = (*n)++;
        snprintf(entries[at].name, sizeof entries[at].name, "%s", name);
    }
    if (at >= 0 && to) entries[at].node = to;
    if (at >= 0 && !to) entries[at] = entries[--*n];
}

/* The folder's names after the first `first` changes. */
static int names_after(const node *folder, int first, entry out[NAMES]) {
    int n = folder->n_entries;
    memcpy(out, folder->entries, sizeof folder->entries);
    for (int i = 0; i < first; i++) {
        const change *c = &folder->changes[i];
        if (*c->from) set_entry(out, &n, c->from, NULL);
        set_entry(out, &n, c->name, c->node);
    }
    return n;
}

static node *child(const node *folder, const char *name) {
    entry entries[NAMES];
    int n = names_after(folder, folder->n_changes, entries), at = find_entry(entries, n, name);
    return at < 0 ? NULL : entries[at].node;
}

/* The folder of a path, and its last part; NULL: there is none. */
static node *parent(const disk *d, const char *path, const char **last) {
    node *at = d->root;
    char part[96];
    for (const char *slash; at && (slash = strchr(path, '/')); path = slash + 1) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        at = child(at, part);
    }
    *last = path;
    return at;
}

static node *find(const disk *d, const char *path) {
    const char *last;
    if (!*path) return d->root;
    node *folder = parent(d, path, &last);
    return folder ? child(folder, last) : NULL;
}

/* ---- bytes ---- */

static void apply_bytes(const change *c, unsigned char *data, int64_t *n) {
    int64_t end = c->kind == RECORD_WRITE ? c->at + c->n : c->at;
    if (c->kind == RECORD_WRITE) memcpy(data + c->at, c->data, (size_t)c->n);
    if (c->kind == RECORD_SIZE && end < *n) memset(data + end, 0, (size_t)(*n - end));
    if (end > *n || c->kind == RECORD_SIZE) *n = end;
}

/* Bytes that it may have in any state. */
static int64_t room(const node *file) {
    int64_t most = file->n;
    for (int i = 0; i < file->n_changes; i++) {
        int64_t end = file->changes[i].at + file->changes[i].n;
        if (end > most) most = end;
    }
    return most;
}

/* data [room], zeros behind the end. */
static int64_t bytes_after(const node *file, int first, unsigned char *data) {
    int64_t n = file->n;
    memset(data, 0, (size_t)room(file));
    if (n > 0) memcpy(data, file->data, (size_t)n);
    for (int i = 0; i < first; i++) apply_bytes(&file->changes[i], data, &n);
    return n;
}

/* ---- calls ---- */

static change *add_change(node *to, record_kind kind) {
    if (to->n_changes == CHANGES) abort();
    change *c = &to->changes[to->n_changes++];
    *c = (change){.kind = kind};
    return c;
}

static bool name_change(const disk *d, record_kind kind, const char *from, const char *path,
                        node *to) {
    const char *last, *from_last = "";
    node *folder = parent(d, path, &last);
    if (!folder || (from && parent(d, from, &from_last) != folder)) return false;
    change *c = add_change(folder, kind);
    snprintf(c->name, sizeof c->name, "%s", last);
    snprintf(c->from, sizeof c->from, "%s", from_last);
    c->node = to;
    return true;
}

/* The place of a descriptor; -1: it is not open. */
static int find_open(const disk *d, const record *r) {
    for (int i = 0; i < d->n_open; i++)
        if (d->open[i].pid == r->pid && d->open[i].fd == r->fd) return i;
    return -1;
}

static bool apply_open(disk *d, const record *r) {
    node *file = find(d, r->path);
    if (!file && r->flags & O_CREAT) {
        file = make_node(d, false);
        if (!name_change(d, r->kind, NULL, r->path, file)) return false;
    }
    if (!file) return false;
    if (!file->folder && r->flags & O_TRUNC) add_change(file, RECORD_SIZE);
    if (d->n_open == OPEN) abort();
    d->open[d->n_open].pid = r->pid;
    d->open[d->n_open].fd = r->fd;
    d->open[d->n_open++].node = file;
    return true;
}

static bool sync_node(node *which) {
    if (which->folder) {
        entry entries[NAMES];
        which->n_entries = names_after(which, which->n_changes, entries);
        memcpy(which->entries, entries, sizeof entries);
    } else {
        unsigned char *data = take((size_t)room(which));
        which->n = bytes_after(which, which->n_changes, data);
        free(which->data);
        which->data = data;
    }
    which->n_changes = 0;
    return true;
}

static bool change_bytes(node *file, const record *r) {
    if (!file || file->folder) return false;
    change *c = add_change(file, r->kind);
    c->at = r->at;
    c->n = r->n;
    c->data = r->data;
    return true;
}

bool disk_apply(disk *d, const record *r) {
    int at = find_open(d, r);
    node *which = r->fd < 0 ? find(d, r->path) : at < 0 ? NULL : d->open[at].node;
    switch (r->kind) {
    case RECORD_OPEN: return apply_open(d, r);
    case RECORD_DROPPED: return true;
    case RECORD_CLOSE:
        if (at >= 0) d->open[at] = d->open[--d->n_open];
        return at >= 0;
    case RECORD_SYNC: return which && sync_node(which);
    case RECORD_WRITE:
    case RECORD_SIZE:
    case RECORD_RESERVE: return change_bytes(which, r);
    case RECORD_MKDIR: return name_change(d, r->kind, NULL, r->path, make_node(d, true));
    case RECORD_RMDIR:
    case RECORD_UNLINK: return name_change(d, r->kind, NULL, r->path, NULL);
    case RECORD_LINK: return which && name_change(d, r->kind, NULL, r->to, which);
    case RECORD_RENAME: return which && name_change(d, r->kind, r->path, r->to, which);
    }
    return false;
}

/* ---- a folder that is there ---- */

static void take_file(node *file, const char *path) {
    size_t n = 0;
    file->data = (unsigned char *)fixture_read(path, &n);
    file->n = (int64_t)n;
}

static void take_folder(disk *d, node *folder, const char *path) {
    char below[1024];
    struct stat info;
    DIR *found = opendir(path);
    for (struct dirent *e; found && (e = readdir(found));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        snprintf(below, sizeof below, "%s/%s", path, e->d_name);
        bool is_folder = stat(below, &info) == 0 && S_ISDIR(info.st_mode);
        node *made = make_node(d, is_folder);
        set_entry(folder->entries, &folder->n_entries, e->d_name, made);
        if (is_folder) take_folder(d, made, below);
        if (!is_folder) take_file(made, below);
    }
    if (found) closedir(found);
}

disk *disk_take(const char *folder) {
    disk *d = take(sizeof *d);
    d->root = make_node(d, true);
    take_folder(d, d->root, folder);
    return d;
}

void disk_free(disk *d) {
    for (int i = 0; i < d->n_nodes; i++) {
        free(d->nodes[i]->data);
        free(d->nodes[i]);
    }
    free(d);
}

/* ---- choices ---- */

static int choose(chooser *c, int n) {
    if (n <= 1) return 0;
    if (c->random) return (int)(par_random_u64(c->seed, c->draws++, 0) % (uint64_t)n);
    if (c->used == 256) abort();
    if (c->used == c->n) {
        c->digits[c->n] = 0;
        c->radix[c->n++] = n;
    }
    return c->digits[c->used++];
}

static bool advance(chooser *c) {
    int i = c->used - 1;
    while (i >= 0 && c->digits[i] + 1 == c->radix[i]) i--;
    if (i < 0) return false;
    c->digits[i]++;
    c->n = i + 1;
    c->used = 0;
    return true;
}

/* The length has come, and of the bytes what was safe before. */
static int64_t length_alone(const node *file, unsigned char *data, int fill) {
    int64_t n = bytes_after(file, file->n_changes, data);
    memset(data, fill, (size_t)n);
    if (file->n > 0) memcpy(data, file->data, (size_t)(file->n < n ? file->n : n));
    return n;
}

/* The first changes whole, and the next one's first bytes. */
static int64_t one_in_part(const node *file, unsigned char *data, chooser *c) {
    int whole = choose(c, file->n_changes);
    int64_t n = bytes_after(file, whole, data);
    change part = file->changes[whole];
    if (part.kind != RECORD_WRITE) return n;
    part.n = choose(c, (int)part.n);
    apply_bytes(&part, data, &n);
    return n;
}

/* What a change does to the bytes from `from` to `to`. */
static void apply_part(const change *c, unsigned char *data, int64_t from, int64_t to) {
    int64_t begin = c->at > from ? c->at : from, end = to;
    if (c->kind == RECORD_WRITE && c->at + c->n < end) end = c->at + c->n;
    if (begin >= end || c->kind == RECORD_RESERVE) return;
    if (c->kind == RECORD_WRITE)
        memcpy(data + begin, c->data + (begin - c->at), (size_t)(end - begin));
    else
        memset(data + begin, 0, (size_t)(end - begin));
}

/* Every sector has some of the changes, whatever others have. */
static int64_t sectors(const node *file, unsigned char *data, chooser *c) {
    const int64_t unit = choose(c, 2) ? 512 : 4096;
    int64_t n = bytes_after(file, choose(c, file->n_changes + 1), data);
    length_alone(file, data, choose(c, 2) ? 0 : 0xa5);
    for (int64_t at = 0; at < n; at += unit)
        for (int i = 0; i < file->n_changes; i++)
            if (choose(c, 2))
                apply_part(&file->changes[i], data, at, at + unit < n ? at + unit : n);
    return n;
}

static int64_t file_state(const node *file, unsigned char *data, chooser *c) {
    const int n = file->n_changes;
    if (!c || n == 0) return bytes_after(file, n, data);
    int how = choose(c, c->random ? n + 5 : n + 3);
    if (how <= n) return bytes_after(file, how, data);
    if (how <= n + 2) return length_alone(file, data, how == n + 1 ? 0 : 0xa5);
    return how == n + 3 ? one_in_part(file, data, c) : sectors(file, data, c);
}

/* ---- images ---- */

static void add_item(disk_image *out, const node *which, const char *path, chooser *c) {
    if (out->n == 128) abort();
    disk_item *item = &out->items[out->n++];
    *item = (disk_item){.folder = which->folder};
    snprintf(item->path, sizeof item->path, "%s", path);
    if (!which->folder) {
        item->data = take((size_t)room(which));
        item->n = file_state(which, item->data, c);
    }
    uint64_t hash = par__fnv64(PAR__FNV64, path, strlen(path) + 1);
    hash = par__fnv64(hash, &item->folder, sizeof item->folder);
    if (!which->folder) hash = par__fnv64(hash, item->data, (size_t)item->n);
    out->hash += hash * UINT64_C(0x9e3779b97f4a7c15);
}

static void add_folder(disk_image *out, const node *folder, const char *path, chooser *c) {
    entry entries[NAMES];
    char below[256];
    int first = c ? choose(c, folder->n_changes + 1) : folder->n_changes;
    int n = names_after(folder, first, entries);
    for (int i = 0; i < n; i++) {
        snprintf(below, sizeof below, "%.150s%s%.95s", path, *path ? "/" : "", entries[i].name);
        add_item(out, entries[i].node, below, c);
        if (entries[i].node->folder) add_folder(out, entries[i].node, below, c);
    }
}

static void state_of(const disk *d, chooser *c, disk_image *out) {
    out->n = 0;
    out->hash = 0;
    add_folder(out, d->root, "", c);
}

void disk_write(const disk_image *image, const char *folder) {
    char path[1024];
    for (int i = 0; i < image->n; i++) {
        const disk_item *item = &image->items[i];
        snprintf(path, sizeof path, "%s/%s", folder, item->path);
        if (item->folder && mkdir(path, 0777) != 0) perror(path);
        if (!item->folder) fixture_write(path, item->data, (size_t)item->n);
    }
}

static void clear(disk_image *image) {
    for (int i = 0; i < image->n; i++) free(image->items[i].data);
    image->n = 0;
}

/* How many there are, torn files aside; at most `most`. */
static long count(const disk *d, disk_image *image, long most) {
    chooser all = {0};
    long n = 0;
    do {
        state_of(d, &all, image);
        clear(image);
    } while (++n < most && advance(&all));
    return n;
}

static void try_one(const disk *d, chooser *c, disk_image *image, disk_try *try, void *user) {
    state_of(d, c, image);
    try(user, image);
    clear(image);
}

void disk_try_states(const disk *d, uint64_t seed, long most, disk_try *try, void *user) {
    disk_image *image = take(sizeof *image);
    chooser all = {0};
    long n = count(d, image, most + 1);
    if (n <= most) {
        do try_one(d, &all, image, try, user);
        while (advance(&all));
    }
    for (long i = 0; n > 1 && i < most; i++) {
        chooser some = {.random = true, .seed = seed + (uint64_t)i};
        try_one(d, &some, image, try, user);
    }
    free(image);
}

bool disk_has(const disk *d, const char *folder) {
    disk_image *want = take(sizeof *want), *got = take(sizeof *got);
    disk *is = disk_take(folder);
    state_of(is, NULL, want);
    state_of(d, NULL, got);
    bool same = want->n == got->n && want->hash == got->hash;
    clear(want);
    clear(got);
    disk_free(is);
    free(want);
    free(got);
    return same;
}

bool disk_seen(disk_states *s, uint64_t key) {
    for (uint64_t at = key % DISK_SEEN;; at = (at + 1) % DISK_SEEN) {
        if (s->seen[at] == key) return true;
        if (s->seen[at]) continue;
        s->seen[at] = key;
        return false;
    }
}
