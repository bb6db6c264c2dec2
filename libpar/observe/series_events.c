/*
 * A series as TensorBoard's event file. A record (TFRecord) is the length of its data as 8 bytes,
 * the masked CRC-32C of those, the data, and its masked CRC-32C; all numbers have their low byte
 * first. The data is an Event message in the wire format of protocol buffers: 1 wall_time (double),
 * 2 step (varint), 3 file_version (text, the first record's), 5 summary of values, each 1 tag
 * (text) and 2 simple_value (float), 7 session log with 1 status (1: start), which makes readers
 * drop the events of its step and of later ones.
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <string.h>

#include "libpar/base/clock.h"
#include "libpar/observe/series.h"

static const char version[] = "brain.Event:2", train[] = "loss/train", valid[] = "loss/validation";

/* Castagnoli's polynomial, reflected. */
static uint32_t crc32c(const unsigned char *data, size_t n) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < n; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82f63b78 & -(crc & 1));
    }
    return ~crc;
}

static uint32_t masked_crc(const unsigned char *data, size_t n) {
    uint32_t crc = crc32c(data, n);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8;
}

static unsigned char *put_fixed(unsigned char *out, uint64_t value, int nbytes) {
    for (int i = 0; i < nbytes; i++) *out++ = (unsigned char)(value >> (8 * i));
    return out;
}

static uint64_t get_fixed(const unsigned char *data, int nbytes) {
    uint64_t value = 0;
    for (int i = 0; i < nbytes; i++) value |= (uint64_t)data[i] << (8 * i);
    return value;
}

static unsigned char *put_varint(unsigned char *out, uint64_t value) {
    for (; value >= 0x80; value >>= 7) *out++ = (unsigned char)(value | 0x80);
    *out++ = (unsigned char)value;
    return out;
}

/* Field `key` (number << 3 | 2) of n bytes. */
static unsigned char *put_bytes(unsigned char *out, int key, const void *data, size_t n) {
    *out++ = (unsigned char)key;
    out = put_varint(out, n);
    memcpy(out, data, n);
    return out + n;
}

static unsigned char *put_value(unsigned char *out, const char *tag, double value) {
    unsigned char message[64], *end = put_bytes(message, 0x0a, tag, strlen(tag));
    float single = (float)value;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    *end++ = 0x15;
    end = put_fixed(end, bits, 4);
    return put_bytes(out, 0x0a, message, (size_t)(end - message));
}

/* The Event message with its frame; what follows the time and the step is `rest`. */
static size_t put_record(unsigned char *out, int64_t step, const unsigned char *rest, size_t n) {
    uint64_t bits;
    double wall = 1e-9 * (double)par__date_nanoseconds();
    memcpy(&bits, &wall, sizeof bits);
    unsigned char *data = out + 12, *end = data;
    *end++ = 0x09;
    end = put_fixed(end, bits, 8);
    *end++ = 0x10;
    end = put_varint(end, (uint64_t)step);
    memcpy(end, rest, n);
    end += n;
    uint64_t length = (uint64_t)(end - data);
    put_fixed(out, length, 8);
    put_fixed(out + 8, masked_crc(out, 8), 4);
    end = put_fixed(end, masked_crc(data, length), 4);
    return (size_t)(end - out);
}

static size_t head(unsigned char *out) {
    unsigned char rest[32], *end = put_bytes(rest, 0x1a, version, sizeof version - 1);
    return put_record(out, 0, rest, (size_t)(end - rest));
}

/* Two of them: TensorBoard takes the first one that it ever sees for the run's beginning. */
static size_t restart(int64_t step, unsigned char *out) {
    static const unsigned char session_start[] = {0x3a, 2, 0x08, 1};
    size_t n = put_record(out, step, session_start, sizeof session_start);
    return n + put_record(out + n, step, session_start, sizeof session_start);
}

static size_t write_point(const par_series_point *p, unsigned char *out) {
    unsigned char values[256], rest[300], *end = values;
    end = put_value(end, p->validation ? valid : train, p->loss);
    if (!p->validation) {
        end = put_value(end, "grad_norm", p->grad_norm);
        end = put_value(end, "lr", p->lr);
        end = put_value(end, "tokens_per_s", p->tokens_per_s);
        if (p->mfu >= 0) end = put_value(end, "mfu", p->mfu);
    }
    end = put_bytes(rest, 0x2a, values, (size_t)(end - values));
    return put_record(out, p->step, rest, (size_t)(end - rest));
}

/* One field of a message at *at: its key and its number, or where its bytes are. False: broken. */
typedef struct {
    int key;
    uint64_t number; /* of bytes: how many */
    const unsigned char *bytes;
} field;

static bool get_varint(const unsigned char **at, const unsigned char *end, uint64_t *out) {
    *out = 0;
    for (int shift = 0; *at < end && shift < 64; shift += 7) {
        unsigned char c = *(*at)++;
        *out |= (uint64_t)(c & 0x7f) << shift;
        if (!(c & 0x80)) return true;
    }
    return false;
}

static bool next_field(const unsigned char **at, const unsigned char *end, field *f) {
    uint64_t key;
    if (!get_varint(at, end, &key) || key > 0x7f) return false;
    f->key = (int)key;
    int kind = (int)(key & 7), fixed = kind == 1 ? 8 : kind == 5 ? 4 : 0;
    if (kind == 0) return get_varint(at, end, &f->number);
    if (kind == 2 && !get_varint(at, end, &f->number)) return false;
    if (kind == 2 ? f->number > (uint64_t)(end - *at) : !fixed || end - *at < fixed) return false;
    f->bytes = *at;
    if (fixed) f->number = get_fixed(*at, fixed);
    *at += kind == 2 ? f->number : (uint64_t)fixed;
    return true;
}

/* A value of a summary: whether it is a loss, into the point. */
static bool get_loss(const unsigned char *at, const unsigned char *end, par_series_point *out) {
    field f;
    bool is_train = false, is_valid = false;
    float loss = 0;
    while (at < end && next_field(&at, end, &f)) {
        uint32_t bits = (uint32_t)f.number;
        if (f.key == 0x0a) {
            is_train = f.number == sizeof train - 1 && memcmp(f.bytes, train, f.number) == 0;
            is_valid = f.number == sizeof valid - 1 && memcmp(f.bytes, valid, f.number) == 0;
        } else if (f.key == 0x15) {
            memcpy(&loss, &bits, sizeof loss);
        }
    }
    if (!is_train && !is_valid) return false;
    out->loss = loss;
    out->validation = is_valid;
    return true;
}

static par__series_found read_point(const unsigned char *text, size_t n, par_series_point *out,
                                    size_t *length) {
    par__series_found found = PAR__SERIES_NONE;
    field f, value;
    if (n < 12) return PAR__SERIES_CUT;
    uint64_t nbytes = get_fixed(text, 8);
    if (get_fixed(text + 8, 4) != masked_crc(text, 8)) return PAR__SERIES_BROKEN;
    if (n < 16 || nbytes > n - 16) return PAR__SERIES_CUT;
    if (get_fixed(text + 12 + nbytes, 4) != masked_crc(text + 12, nbytes))
        return PAR__SERIES_BROKEN;
    *length = 16 + nbytes;
    *out = (par_series_point){0};
    const unsigned char *at = text + 12, *end = at + nbytes;
    while (at < end) {
        if (!next_field(&at, end, &f)) return PAR__SERIES_BROKEN;
        if (f.key == 0x10) out->step = (int64_t)f.number;
        if (f.key == 0x3a) found = PAR__SERIES_RESTART;
        const unsigned char *inner = f.bytes;
        while (f.key == 0x2a && inner < f.bytes + f.number) {
            if (!next_field(&inner, f.bytes + f.number, &value)) return PAR__SERIES_BROKEN;
            if (value.key == 0x0a && get_loss(value.bytes, value.bytes + value.number, out))
                found = PAR__SERIES_POINT;
        }
    }
    return found;
}

const par__series_form par__series_events = {head, write_point, restart, read_point, true};
