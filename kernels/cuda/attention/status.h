/* Checks of cuDNN's calls: an error has the call's name, its status and cuDNN's last error text.
 * Refusals (not supported, a parameter that it does not take, a part of it or the driver that is
 * not there) are PAR_ERR_UNSUPPORTED; a library or device that fails is PAR_ERR_DEVICE. */
#ifndef PAR__CUDNN_STATUS_H
#define PAR__CUDNN_STATUS_H

#include <cudnn.h>
#include <stdbool.h>

#include "par/status.h"

static inline par_status par__cudnn_class(cudnnStatus_t status) {
    switch ((int)status) {
    case CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED:
    case CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED: return PAR_ERR_MEMORY;
    case CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED:
    case CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH: return PAR_ERR_UNSUPPORTED;
    default:
        return CUDNN_STATUS_CATEGORY((int)status) == (int)CUDNN_STATUS_NOT_SUPPORTED ||
                       CUDNN_STATUS_CATEGORY((int)status) == (int)CUDNN_STATUS_BAD_PARAM
                   ? PAR_ERR_UNSUPPORTED
                   : PAR_ERR_DEVICE;
    }
}

static inline par_status par__cudnn_failed(cudnnStatus_t status, const char *call) {
    char text[768] = "";
    cudnnGetLastErrorString(text, sizeof text);
    PAR_FAIL(par__cudnn_class(status), "cuDNN %zu: %.96s: %s: %s", cudnnGetVersion(), call,
             cudnnGetErrorString(status), text);
}

/* A status that says "not for this shape or device", and is not an error. */
static inline bool par__cudnn_unsupported(cudnnStatus_t status) {
    return CUDNN_STATUS_CATEGORY((int)status) == (int)CUDNN_STATUS_NOT_SUPPORTED;
}

#define PAR__CUDNN_TRY(call)                                                                       \
    do {                                                                                           \
        cudnnStatus_t par_cudnn_status_ = (call);                                                  \
        if (par_cudnn_status_ != CUDNN_STATUS_SUCCESS)                                             \
            return par__cudnn_failed(par_cudnn_status_, #call);                                    \
    } while (0)

#endif
