/*
 * safetensors: round trips of every type and shape, headers made by hand with one thing wrong each,
 * every length of a file cut, and every possible header length.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "libpar/base/file.h"
#include "par/import.h"
#include "../data/temp.h"

static par_status try_open(const char *path) {
    par_safetensors *file = NULL;
    par_status st = par_safetensors_open(path, &file);
    par_safetensors_close(&file);
    return st;
}

static size_t raw(uint8_t *out, const char *header, size_t data_nbytes) {
    uint64_t n = strlen(header);
    memcpy(out, &n, 8);
    memcpy(out + 8, header, n);
    for (size_t i = 0; i < data_nbytes; i++) out[8 + n + i] = (uint8_t)(i * 37 + 1);
    return 8 + n + data_nbytes;
}

static const char *raw_file(const char *header, size_t data_nbytes) {
    static uint8_t bytes[8192];
    return temp_file("raw.safetensors", bytes, raw(bytes, header, data_nbytes));
}

enum { COUNT = 9 };

static const char *const names[COUNT] = {
    "scalar", "b", "a \"quoted\" \\ name", "z/4d", "empty", "i64", "u8", "h", "\xc3\xa9"};
static uint8_t values[512];

static void make_tensors(par_tensor *t) {
    for (size_t i = 0; i < sizeof values; i++) values[i] = (uint8_t)(i * 59 + 3);
    t[0] = par_tensor_make(values, PAR_F32, 0, 0, 0, 0, 0);
    t[1] = par_tensor_make(values + 3, PAR_BF16, 1, 7, 0, 0, 0);
    t[2] = par_tensor_make(values + 50, PAR_F16, 2, 3, 5, 0, 0);
    t[3] = par_tensor_make(values + 100, PAR_I32, 4, 2, 3, 1, 4);
    t[4] = par_tensor_make(NULL, PAR_F32, 3, 4, 0, 2, 0);
    t[5] = par_tensor_make(values + 200, PAR_I64, 3, 1, 2, 3, 0);
    t[6] = par_tensor_make(values + 300, PAR_U8, 1, 5, 0, 0, 0);
    t[7] = par_tensor_make(values + 310, PAR_F16, 1, 1, 0, 0, 0);
    t[8] = par_tensor_make(values + 320, PAR_F32, 2, 4, 4, 0, 0);
}

static void round_trip(void) {
    par_tensor t[COUNT], got;
    par_safetensors *file = NULL;
    const char *path = temp_path("round.safetensors");
    size_t size;
    make_tensors(t);
    CHECK_OK(par_safetensors_write(path, COUNT, names, t));
    CHECK_OK(par_safetensors_open(path, &file));
    if (!file) return;
    CHECK(par_safetensors_n(file) == COUNT, "%d tensors", par_safetensors_n(file));
    CHECK(par_safetensors_name(file, COUNT) == NULL && par_safetensors_name(file, -1) == NULL,
          "names out of range");
    for (int i = 0; i < COUNT; i++) {
        CHECK_OK(par_safetensors_get(file, names[i], &got));
        CHECK(got.dtype == t[i].dtype && got.ndim == t[i].ndim &&
                  memcmp(got.shape, t[i].shape, sizeof got.shape) == 0,
              "%s: another type or shape", names[i]);
        size_t nbytes = par_tensor_nbytes(&t[i]);
        CHECK(nbytes == 0 || memcmp(got.data, t[i].data, nbytes) == 0, "%s: other bytes", names[i]);
    }
    par_safetensors_close(&file);
    CHECK(file == NULL, "close does not null");
    char *bytes = temp_read(path, &size);
    uint64_t n;
    memcpy(&n, bytes, 8);
    CHECK(n % 8 == 0, "data not aligned: header of %llu bytes", (unsigned long long)n);
    free(bytes);
    CHECK_OK(par_safetensors_write(path, 0, NULL, NULL));
    CHECK_OK(try_open(path));
    CHECK(temp_count(PAR__TEMPORARY) == 0, "temporary files are left");
}

static void write_refusals(void) {
    const char *path = temp_path("refused.safetensors");
    static const char *const twice[] = {"a", "a"}, *const reserved[] = {"__metadata__"},
                             *const bad[] = {"\xff\xfe"};
    par_tensor t[2] = {par_tensor_make(values, PAR_F32, 1, 4, 0, 0, 0),
                       par_tensor_make(values, PAR_F32, 1, 4, 0, 0, 0)};
    CHECK_FAILS(par_safetensors_write(path, 2, twice, t), PAR_ERR_ARG, "there twice");
    CHECK_FAILS(par_safetensors_write(path, 1, reserved, t), PAR_ERR_ARG, "reserved");
    CHECK_FAILS(par_safetensors_write(path, 1, bad, t), PAR_ERR_ARG, "not UTF-8");
    t[0].shape[0] = -1;
    CHECK_FAILS(par_safetensors_write(path, 1, twice, t), PAR_ERR_ARG, "dimension 0 is -1");
    t[0].shape[0] = 4;
    t[0].data = NULL;
    CHECK_FAILS(par_safetensors_write(path, 1, twice, t), PAR_ERR_ARG, "has no data");
    t[0].dtype = PAR_DTYPE_COUNT;
    CHECK_FAILS(par_safetensors_write(path, 1, twice, t), PAR_ERR_ARG, "legal: a par_dtype");
    CHECK(temp_count("refused") == 0, "something is left behind");
}

#define A        "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
#define B(range) "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[" range "]}"
#define ENTRY(dtype, shape, range)                                                                 \
    "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" range "}}"

static void good_headers(void) {
    CHECK_OK(try_open(raw_file("{" A "," B("8,12") "}", 12)));
    CHECK_OK(try_open(raw_file("{" B("8,12") "," A "}   ", 12)));
    CHECK_OK(try_open(raw_file("{\"__metadata__\":{\"format\":\"pt\"}," A "}", 8)));
    CHECK_OK(try_open(raw_file("{\"__metadata__\":null," A "}", 8)));
    CHECK_OK(try_open(raw_file("{}", 0)));
    CHECK_OK(try_open(raw_file(ENTRY("\"F64\"", "[1]", "[0,8]"), 8)));
    CHECK_OK(try_open(raw_file(
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}," B("0,4") "}", 4)));
}

static void bad_headers(void) {
    static const struct {
        const char *header;
        size_t data;
        const char *text;
    } bad[] = {
        {" {" A "}", 8, "does not begin with {"},
        {"[]", 0, "does not begin with {"},
        {"{" A, 8, "offset"},
        {"{" A "} x", 8, "end of file expected"},
        {"{" A "," A "}", 8, "duplicate object key"},
        {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8,
         "duplicate object key"},
        {"{" A "," B("8,12") "}", 11, "\"b\": data_offsets [8, 12]; legal: within [0, 11]"},
        {"{" A "," B("8,12") "}", 13, "end at byte 12 of the data, the file has 13"},
        {"{" A "," B("9,13") "}", 13,
         "\"b\": begins at byte 9 of the data, the one before ends at 8: a hole"},
        {"{" A "," B("4,8") "}", 8, "they overlap"},
        {"{" A "," B("0,4") "}", 8, "they overlap"},
        {"{" A "}", 0, "legal: within [0, 0]"},
        {"{\"a\":3}", 0, "\"a\": is not an object"},
        {"{\"__metadata__\":3}", 0, "is not an object"},
        {"{\"__metadata__\":{\"x\":3}}", 0, "\"x\" is not a string"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"more\":1}}", 8,
         "unknown key \"more\""},
        {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "dtype is missing"},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "shape is missing"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "data_offsets is missing"},
        {ENTRY("7", "[2]", "[0,8]"), 8, "dtype is missing or not a string"},
        {ENTRY("\"F31\"", "[2]", "[0,8]"), 8, "dtype \"F31\" is unknown; legal: F32, BF16"},
        {ENTRY("\"F32\"", "2", "[0,8]"), 8, "shape is missing or not an array"},
        {ENTRY("\"F32\"", "[2.0]", "[0,8]"), 8, "dimension 0 is not an integer"},
        {ENTRY("\"F32\"", "[-2]", "[0,8]"), 8, "dimension 0 is not an integer"},
        {ENTRY("\"F32\"", "[1,3]", "[0,8]"), 8, "span 8 bytes, F32 and its shape take 12"},
        {ENTRY("\"F32\"", "[4294967296,4294967296]", "[0,8]"), 8, "more than 2^64 bytes"},
        {ENTRY("\"F32\"", "[4611686018427387904]", "[0,0]"), 0, "more than 2^64 bytes"},
        {ENTRY("\"F32\"", "[99999999999999999999]", "[0,8]"), 8, "too big integer"},
        {ENTRY("\"F32\"", "[2]", "[0,8,9]"), 8, "not [begin, end]"},
        {ENTRY("\"F32\"", "[2]", "{}"), 8, "not [begin, end]"},
        {ENTRY("\"F32\"", "[2]", "[0.0,8]"), 8, "not [begin, end]"},
        {ENTRY("\"F32\"", "[2]", "[8,0]"), 8, "data_offsets [8, 0]"},
        {ENTRY("\"F32\"", "[2]", "[-8,0]"), 8, "data_offsets [-8, 0]"},
        {ENTRY("\"F32\"", "[2]", "[0,9223372036854775807]"), 8, "legal: within [0, 8]"},
        {"{\"\\u0000\":3}", 0, "offset"},
    };
    for (int i = 0; i < (int)(sizeof bad / sizeof *bad); i++) {
        const char *path = raw_file(bad[i].header, bad[i].data);
        CHECK_FAILS(try_open(path), PAR_ERR_FORMAT, bad[i].text);
        CHECK(strncmp(par_error(), path, strlen(path)) == 0, "no path in \"%s\"", par_error());
    }
}

static void truncations(void) {
    static uint8_t bytes[1024];
    size_t n = raw(bytes, "{" A "," B("8,12") "}  ", 12), header = n - 20;
    CHECK_OK(try_open(temp_file("cut.safetensors", bytes, n)));
    for (size_t i = 0; i < n; i++)
        CHECK(try_open(temp_file("cut.safetensors", bytes, i)) == PAR_ERR_FORMAT, "cut to %zu: %s",
              i, par_error());
    CHECK(try_open(temp_file("cut.safetensors", bytes, n + 1)) == PAR_ERR_FORMAT,
          "one byte more is accepted");
    /* Another length of the header: only one that cuts off spaces could be read, and then the data
     * is too long. */
    for (uint64_t h = 0; h < n + 20; h++) {
        if (h == header) continue;
        memcpy(bytes, &h, 8);
        CHECK(try_open(temp_file("cut.safetensors", bytes, n)) == PAR_ERR_FORMAT,
              "header of %d: %s", (int)h, par_error());
    }
    static const uint64_t large[] = {100000001, 1ull << 32, 1ull << 63, UINT64_MAX, UINT64_MAX - 7};
    for (int i = 0; i < 5; i++) {
        memcpy(bytes, &large[i], 8);
        CHECK_FAILS(try_open(temp_file("cut.safetensors", bytes, n)), PAR_ERR_FORMAT,
                    "offset 0: header of");
    }
    CHECK_FAILS(try_open(temp_file("page.safetensors", "<!doctype html><html>", 21)),
                PAR_ERR_FORMAT, "begins with \"<!doctyp\": is text, not safetensors");
    CHECK_FAILS(try_open(temp_path("absent.safetensors")), PAR_ERR_IO, "No such file");
}

static void lookups(void) {
    par_safetensors *file = NULL;
    par_tensor t;
    CHECK_OK(par_safetensors_open(
        raw_file("{\"h.0.ln_1.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                 "\"h.0.ln_1.bias\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[4,12]},"
                 "\"x\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,2],\"data_offsets\":[12,14]}}",
                 14),
        &file));
    if (!file) return;
    CHECK_FAILS(par_safetensors_get(file, "h.0.ln_1.wait", &t), PAR_ERR_ARG,
                "closest of 3: h.0.ln_1.weight, h.0.ln_1.bias, x");
    CHECK_FAILS(par_safetensors_get(file, "h.0.ln_1.bias", &t), PAR_ERR_UNSUPPORTED,
                "dtype F64; supported: F32");
    CHECK_FAILS(par_safetensors_get(file, "x", &t), PAR_ERR_UNSUPPORTED, "5 dimensions");
    par_safetensors_close(&file);
    CHECK_OK(par_safetensors_open(raw_file("{}", 0), &file));
    CHECK_FAILS(par_safetensors_get(file, "x", &t), PAR_ERR_ARG, "has no tensors");
    par_safetensors_close(&file);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"round-trip", round_trip, 0, NULL, 0},     {"write-refusals", write_refusals, 0, NULL, 0},
        {"good-headers", good_headers, 0, NULL, 0}, {"bad-headers", bad_headers, 0, NULL, 0},
        {"truncations", truncations, 0, NULL, 0},   {"lookups", lookups, 0, NULL, 0},
    };
    harness_foreign_json();
    temp_open();
    int rc = harness_main("safetensors", cases, HARNESS_COUNT(cases), argc, argv);
    temp_close();
    return rc;
}
