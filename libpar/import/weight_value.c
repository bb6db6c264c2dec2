/* Weights that a model cannot have: not finite, or too large for its type. */
#include <math.h>

#include "kernels/half.h"
#include "libpar/import/safetensors.h"
#include "libpar/import/weights.h"

float par__weight_limit(par_dtype dtype) {
    return dtype == PAR_F16 ? PAR__F16_OVERFLOW : dtype == PAR_BF16 ? PAR__BF16_OVERFLOW : INFINITY;
}

par_status par__weight_refuse(const char *path, const char *name, int ndim, const int64_t index[2],
                              double value, par_dtype dtype) {
    char text[64];
    par__shape_text(text, sizeof text, ndim, index);
    if (!isfinite(value))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: tensor \"%.200s\": element %s is %g; legal: finite weights",
                 path, name, text, value);
    PAR_FAIL(PAR_ERR_UNSUPPORTED,
             "%s: tensor \"%.200s\": element %s is %g, too large for precision %s; legal: up to "
             "%g, or precision %s",
             path, name, text, value, par_dtype_name(dtype),
             dtype == PAR_F16 ? 65504.0 : 0x1.fep127, dtype == PAR_F16 ? "bf16" : "fp32");
}
