/*
 * The fibers of emulator.h. A fiber is entered once with makecontext and from then on switched with
 * the compiler's __builtin_setjmp and __builtin_longjmp: some ten nanoseconds. The address
 * sanitizer takes the C library's longjmp for frames that end and asks the kernel where their stack
 * lies, which made kernels three times slower; here no frame ends, so its marks stay right without.
 * A meeting point is left when all threads that have not ended (of the block, a row of it, or the
 * warp) stand at it; when none can go on, the kernel is wrong and the process ends with its name.
 */
#include "tests/cuda/emulator.h"
#include "tests/cuda/emulator_mma.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <ucontext.h>
#include <vector>

#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

emulator_place emulator_here;

namespace {

enum state { RUNS, AT_BLOCK, AT_ROW, AT_WARP, ENDED };
enum { STACK = 64 << 10, SHARED = 232448 };

typedef void *place_in_code[5]; /* what __builtin_setjmp wants */

struct copy {
    void *to;
    const void *from; /* NULL: zeros */
    int nbytes;
    int group;
};

struct fiber {
    ucontext_t context;
    place_in_code jump;
    std::unique_ptr<char[]> stack;
    state at = ENDED;
    bool entered = false;
    uint3 thread{};
    std::vector<copy> copies; /* asynchronous, that have not arrived */
    int groups = 0;           /* of copies, that have ended */
    bool began = false;       /* some, and has not waited since */
    bool unseen = false;      /* waited for some, which products do not see yet */
    std::vector<std::function<void()>> products; /* begun, and not computed */
    std::vector<size_t> commits;                 /* how many of them lie before each */
};

std::vector<std::unique_ptr<fiber>> pool;
std::vector<uint64_t> warp_values;
uint32_t warp_words[1024][6];
alignas(1024) char dynamic_shared[SHARED];
place_in_code scheduler;
fiber *current;
const std::function<void()> *body;
const char *running; /* kernel */

#define PLAIN __attribute__((noinline, no_sanitize("address")))

/* Apart: a function may not jump where it stands itself. */
[[noreturn]] PLAIN void jump_to(place_in_code place) {
    __builtin_longjmp(place, 1);
}

PLAIN void pause_at(state s) {
    current->at = s;
    if (__builtin_setjmp(current->jump) == 0) jump_to(scheduler);
}

/* A fiber's first function lives for ever: after a thread it waits for the next. */
void fiber_main() {
    for (;;) {
        (*body)();
        pause_at(ENDED);
    }
}

PLAIN void resume(fiber *f) {
    current = f;
    emulator_here.thread = f->thread;
    if (__builtin_setjmp(scheduler) != 0) return;
    if (f->entered) jump_to(f->jump);
    f->entered = true;
    f->stack.reset(new char[STACK]);
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack.get();
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = nullptr;
    makecontext(&f->context, fiber_main, 0);
    setcontext(&f->context);
}

/* Let those go on who stand together: a group of threads [begin, end), at `where`. */
bool release(size_t begin, size_t end, state where) {
    bool any = false;
    for (size_t i = begin; i < end; i++) {
        if (pool[i]->at == ENDED) continue;
        if (pool[i]->at != where) return false;
        any = true;
    }
    for (size_t i = begin; i < end; i++)
        if (pool[i]->at == where) pool[i]->at = RUNS;
    return any;
}

/* Run the threads [begin, end), a warp, until each has ended or stands at the block's barrier. Says
 * if any moved. */
bool run_warp(size_t begin, size_t end, bool reverse) {
    bool any = false;
    do {
        for (size_t k = begin; k < end; k++) {
            fiber *f = pool[reverse ? begin + end - 1 - k : k].get();
            if (f->at != RUNS) continue;
            resume(f);
            any = true;
        }
    } while (release(begin, end, AT_WARP));
    return any;
}

bool in_reverse() {
    static const bool reverse =
        getenv("PAR_EMULATOR_ORDER") && !strcmp(getenv("PAR_EMULATOR_ORDER"), "reverse");
    return reverse;
}

/* Each warp runs as far ahead as it can, the first one first, or with PAR_EMULATOR_ORDER=reverse
 * the last one: without a barrier a reader is before its writer in one of the two. */
void run_block(const char *kernel, size_t n) {
    const bool reverse = in_reverse();
    size_t warps = (n + 31) / 32;
    for (size_t i = 0; i < n; i++) {
        pool[i]->at = RUNS;
        pool[i]->copies.clear();
        pool[i]->groups = 0;
        pool[i]->began = pool[i]->unseen = false;
        pool[i]->products.clear();
        pool[i]->commits.clear();
    }
    for (;;) {
        bool moved = false, open = false;
        for (size_t k = 0; k < warps; k++) {
            size_t w = reverse ? warps - 1 - k : k;
            moved |= run_warp(w * 32, std::min(w * 32 + 32, n), reverse);
        }
        for (size_t row = emulator_here.block_size.x, i = 0; row % 32 == 0 && i < n; i += row)
            moved |= release(i, i + row, AT_ROW);
        moved |= release(0, n, AT_BLOCK);
        for (size_t i = 0; i < n; i++) open |= pool[i]->at != ENDED;
        if (!open) return;
        if (moved) continue;
        fprintf(stderr, "emulator: %s: threads of a block wait at different places for ever\n",
                kernel);
        abort();
    }
}

} // namespace

void emulator_sync_block() {
    pause_at(AT_BLOCK);
}
void emulator_sync_row() {
    if (emulator_here.block_size.x % 32 != 0 || current->thread.y > 14) {
        fprintf(stderr, "emulator: %s: a barrier of a row of %u threads, row %u\n", running,
                emulator_here.block_size.x, current->thread.y);
        abort();
    }
    pause_at(AT_ROW);
}
void emulator_sync_warp(unsigned mask) {
    if (mask != 0xffffffffu) {
        fprintf(stderr, "emulator: warp operations of whole warps only\n");
        abort();
    }
    pause_at(AT_WARP);
}
void emulator_check_aligned(const void *p) {
    if ((uintptr_t)p % 16 == 0) return;
    fprintf(stderr, "emulator: %s: a 16-byte access at %p\n", running, p);
    abort();
}
void emulator_misplaced(const void *p) {
    fprintf(stderr, "emulator: %s: a factor of a product at %p, not on 1024 bytes\n", running, p);
    abort();
}
void *emulator_shared() {
    return dynamic_shared;
}
static size_t thread_of_block() {
    return current->thread.x +
           emulator_here.block_size.x *
               (current->thread.y + (size_t)emulator_here.block_size.y * current->thread.z);
}
uint64_t *emulator_warp_values() {
    return &warp_values[thread_of_block() / 32 * 32];
}
uint32_t (*emulator_warp_words())[6] {
    return &warp_words[thread_of_block() / 32 * 32];
}
static void arrive(const copy &c) {
    if (c.from)
        memcpy(c.to, c.from, (size_t)c.nbytes);
    else
        memset(c.to, 0, (size_t)c.nbytes);
}
void emulator_copy(void *to, const void *from, int nbytes, bool valid) {
    const copy c = {to, valid ? from : nullptr, nbytes, current->groups};
    current->began = true;
    if (in_reverse())
        arrive(c);
    else
        current->copies.push_back(c);
}
void emulator_copy_end() {
    current->groups++;
}
void emulator_copy_wait(int later) {
    size_t n = 0;
    while (n < current->copies.size() && current->copies[n].group < current->groups - later)
        arrive(current->copies[n++]);
    current->copies.erase(current->copies.begin(), current->copies.begin() + (long)n);
    current->unseen |= current->began;
    current->began = false;
}
void emulator_see_copies() {
    current->unseen = false;
}
static void stop(const char *what) {
    fprintf(stderr, "emulator: %s: %s\n", running, what);
    abort();
}
void emulator_product(std::function<void()> compute) {
    if (current->unseen) stop("a product before par__wgmma_see");
    if (in_reverse())
        compute();
    else
        current->products.push_back(std::move(compute));
}
void emulator_commit_products() {
    current->commits.push_back(current->products.size());
}
void emulator_wait_products(int left) {
    fiber *f = current; /* computing, others run */
    if (f->commits.size() <= (size_t)left) return;
    size_t done = f->commits.size() - (size_t)left, n = f->commits[done - 1];
    for (size_t i = 0; i < n; i++) f->products[i]();
    f->products.erase(f->products.begin(), f->products.begin() + (long)n);
    f->commits.erase(f->commits.begin(), f->commits.begin() + (long)done);
    for (size_t &c : f->commits) c -= n;
}

void emulator_run(const char *kernel, dim3 grid, dim3 block, size_t shared_nbytes,
                  const std::function<void()> &thread) {
    size_t n = (size_t)block.x * block.y * block.z;
    if (n == 0 || n > 1024 || shared_nbytes > SHARED || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.y > 65535 || grid.z > 65535 || grid.x > 2147483647u) {
        fprintf(stderr, "emulator: %s: illegal launch (%u,%u,%u) x (%u,%u,%u), %zu bytes shared\n",
                kernel, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared_nbytes);
        abort();
    }
    while (pool.size() < n) pool.emplace_back(new fiber);
    if (warp_values.size() < n + 32) warp_values.resize(n + 32);
    body = &thread;
    running = kernel;
    emulator_here.block_size = block;
    emulator_here.grid_size = grid;
    for (size_t i = 0; i < n; i++)
        pool[i]->thread = {(unsigned)(i % block.x), (unsigned)(i / block.x % block.y),
                           (unsigned)(i / block.x / block.y)};
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                emulator_here.block = {x, y, z};
                memset(dynamic_shared, 0xff, shared_nbytes);
                run_block(kernel, n);
            }
}
