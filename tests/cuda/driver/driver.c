/*
 * The least of a CUDA driver with which cuDNN compiles plans where there is none: loading a library
 * of kernels succeeds, everything else answers CUDA_ERROR_STUB_LIBRARY. All these symbols must
 * exist: cuDNN looks them up together and takes a driver that lacks one for absent.
 */
enum { SUCCESS = 0, STUB_LIBRARY = 34 };

int cuLibraryLoadData(void **library, const void *code, void *a, void *b, unsigned n_a, void *c,
                      void *d, unsigned n_c);
int cuLibraryGetKernel(void **kernel, void *library, const char *name);
int cuLibraryUnload(void *library);

static int something; /* what handles point at */

int cuLibraryLoadData(void **library, const void *code, void *a, void *b, unsigned n_a, void *c,
                      void *d, unsigned n_c) {
    (void)code, (void)a, (void)b, (void)n_a, (void)c, (void)d, (void)n_c;
    *library = &something;
    return SUCCESS;
}

int cuLibraryGetKernel(void **kernel, void *library, const char *name) {
    (void)library, (void)name;
    *kernel = &something;
    return SUCCESS;
}

int cuLibraryUnload(void *library) {
    (void)library;
    return SUCCESS;
}

#define ABSENT(name)                                                                               \
    int name(void);                                                                                \
    int name(void) {                                                                               \
        return STUB_LIBRARY;                                                                       \
    }

ABSENT(cuCtxGetCurrent)
ABSENT(cuCtxGetDevice)
ABSENT(cuCtxGetLimit)
ABSENT(cuCtxPopCurrent)
ABSENT(cuCtxPushCurrent)
ABSENT(cuDeviceGet)
ABSENT(cuDeviceGetAttribute)
ABSENT(cuDeviceGetCount)
ABSENT(cuDevicePrimaryCtxRelease)
ABSENT(cuDevicePrimaryCtxReset)
ABSENT(cuDevicePrimaryCtxRetain)
ABSENT(cuDriverGetVersion)
ABSENT(cuFuncGetAttribute)
ABSENT(cuFuncSetAttribute)
ABSENT(cuGetErrorName)
ABSENT(cuGetErrorString)
ABSENT(cuInit)
ABSENT(cuKernelGetAttribute)
ABSENT(cuKernelSetAttribute)
ABSENT(cuLaunchCooperativeKernel)
ABSENT(cuLaunchKernel)
ABSENT(cuLaunchKernelEx)
ABSENT(cuLibraryLoadFromFile)
ABSENT(cuLinkAddData)
ABSENT(cuLinkAddData_v2)
ABSENT(cuLinkAddFile_v2)
ABSENT(cuLinkComplete)
ABSENT(cuLinkCreate)
ABSENT(cuLinkCreate_v2)
ABSENT(cuLinkDestroy)
ABSENT(cuMemcpyDtoH_v2)
ABSENT(cuModuleGetFunction)
ABSENT(cuModuleGetGlobal_v2)
ABSENT(cuModuleLoadData)
ABSENT(cuModuleLoadDataEx)
ABSENT(cuModuleLoadFatBinary)
ABSENT(cuModuleUnload)
ABSENT(cuOccupancyMaxActiveBlocksPerMultiprocessor)
ABSENT(cuOccupancyMaxPotentialClusterSize)
ABSENT(cuStreamGetCtx)
ABSENT(cuStreamSynchronize)
ABSENT(cuTensorMapEncodeTiled)
