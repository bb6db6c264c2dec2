/*
 * Conversions of bf16 and fp16 against their definition: the value of all 65,536 patterns by ldexp,
 * and rounding to nearest even as a choice between the two neighbours, at the midpoints and one
 * unit of fp32 to each side.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "kernels/half.h"

typedef struct {
    const char *name;
    int exponent_bits, fraction_bits;
    float (*widen)(uint16_t);
    uint16_t (*narrow)(float);
} format;

static const format formats[] = {
    {"bf16", 8, 7, par__bf16_to_f32, par__f32_to_bf16},
    {"fp16", 5, 10, par__f16_to_f32, par__f32_to_f16},
};

/* IEEE 754-2019, 3.4: sign, biased exponent, fraction. */
static double value(const format *f, unsigned h) {
    int bias = (1 << (f->exponent_bits - 1)) - 1, top = (1 << f->exponent_bits) - 1;
    int exponent = (int)(h >> f->fraction_bits) & top,
        fraction = (int)h & ((1 << f->fraction_bits) - 1);
    double sign = h & 0x8000u ? -1 : 1;
    if (exponent == top) return fraction ? (double)NAN : sign * (double)INFINITY;
    int hidden = exponent > 0 ? 1 << f->fraction_bits : 0;
    return sign * ldexp(fraction + hidden, (exponent > 0 ? exponent : 1) - bias - f->fraction_bits);
}

static void test_widen(void) {
    for (int i = 0; i < 2; i++)
        for (unsigned h = 0; h < 65536; h++) {
            double expected = value(&formats[i], h), x = formats[i].widen((uint16_t)h);
            bool same =
                isnan(expected) ? isnan(x) : x == expected && signbit(x) == signbit(expected);
            CHECK(same, "%s 0x%04x is %g, not %g", formats[i].name, h, x, expected);
        }
}

static void test_round_trip(void) {
    for (int i = 0; i < 2; i++)
        for (unsigned h = 0; h < 65536; h++) {
            unsigned quiet =
                isnan(value(&formats[i], h)) ? 1u << (formats[i].fraction_bits - 1) : 0;
            uint16_t back = formats[i].narrow(formats[i].widen((uint16_t)h));
            CHECK(back == (h | quiet), "%s 0x%04x comes back as 0x%04x", formats[i].name, h, back);
        }
}

static void check_narrow(const format *f, float x, unsigned expected) {
    for (unsigned sign = 0; sign < 2; sign++) {
        uint16_t h = f->narrow(sign ? -x : x);
        CHECK(h == (expected | sign << 15), "%s of %.9g is 0x%04x, not 0x%04x", f->name,
              sign ? -(double)x : (double)x, h, expected | sign << 15);
    }
}

/* Between h and h + 1 the midpoint goes to the even one; above the largest, infinity is the "next"
 * power of two. */
static void test_midpoints(void) {
    for (int i = 0; i < 2; i++) {
        const format *f = &formats[i];
        unsigned infinity = ((1u << f->exponent_bits) - 1) << f->fraction_bits;
        for (unsigned h = 0; h < infinity; h++) {
            double low = value(f, h),
                   high = h + 1 < infinity ? value(f, h + 1) : 2 * low - value(f, h - 1);
            float middle = (float)((low + high) / 2);
            CHECK((double)middle == (low + high) / 2, "%s: the midpoint above 0x%04x is not fp32",
                  f->name, h);
            check_narrow(f, middle, h + (h & 1));
            check_narrow(f, nextafterf(middle, 0), h);
            check_narrow(f, nextafterf(middle, INFINITY), h + 1);
        }
    }
}

static void test_extremes(void) {
    for (int i = 0; i < 2; i++) {
        unsigned infinity = ((1u << formats[i].exponent_bits) - 1) << formats[i].fraction_bits;
        check_narrow(&formats[i], INFINITY, infinity);
        check_narrow(&formats[i], 0x1.fffffep127f, infinity);
        check_narrow(&formats[i], 0x1p-149f, 0);
    }
    check_narrow(&formats[1], 65504, 0x7bff);
    check_narrow(&formats[1], 65536, 0x7c00);
    check_narrow(&formats[1], 1e30f, 0x7c00);
    /* every NaN stays one, also when its payload lies in bits that are cut off */
    for (uint32_t payload = 1; payload < 0x800000; payload += payload < 0x10000 ? 1 : 4099)
        for (int i = 0; i < 2; i++) {
            float x = par__bits_f32(0x7f800000u | payload);
            CHECK(isnan(formats[i].widen(formats[i].narrow(x))), "%s of NaN 0x%08x is 0x%04x",
                  formats[i].name, 0x7f800000u | payload, formats[i].narrow(x));
        }
}

static const harness_case cases[] = {
    {.name = "widen", .run = test_widen},
    {.name = "round_trip", .run = test_round_trip},
    {.name = "midpoints", .run = test_midpoints},
    {.name = "extremes", .run = test_extremes},
};

int main(int argc, char **argv) {
    return harness_main("half", cases, HARNESS_COUNT(cases), argc, argv);
}
