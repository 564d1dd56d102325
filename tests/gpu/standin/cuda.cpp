// libcuda.so.1 over the stand-in device. STANDIN_ARCH is what it says it is (default sm_90),
// STANDIN_VERSION its CUDA version, STANDIN_DEVICES how many there are.
#include "device.h"

using namespace standin;
using Address = uint64_t;

static void* pointer(Address address) { return reinterpret_cast<void*>(address); }

// How cuda-bindings finds all others. A name stands for its newest version that we have.
API(cuGetProcAddress_v2)(const char* name, void** found, int, uint64_t, int* status) {
    Dl_info ours;
    if (!dladdr(reinterpret_cast<void*>(&setting), &ours)) return kNotFound;
    void* library = dlopen(ours.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    *found = dlsym(library, (std::string(name) + "_v2").c_str());
    if (!*found) *found = dlsym(library, name);
    if (status) *status = *found ? 0 : 1;
    return *found ? kSuccess : kNotFound;
}

API(cuInit)(unsigned) { FAIL_IF_TOLD return std::atoi(setting("STANDIN_DEVICES", "1")) ? 0 : 100; }

API(cuDriverGetVersion)(int* version) {
    *version = std::atoi(setting("STANDIN_VERSION", "13000"));
    return 0;
}

API(cuDeviceGetCount)(int* n) {
    FAIL_IF_TOLD
    *n = std::atoi(setting("STANDIN_DEVICES", "1"));
    return 0;
}

API(cuDeviceGet)(int* device, int index) {
    FAIL_IF_TOLD
    *device = index;
    return 0;
}

API(cuDeviceGetName)(char* name, int n, int) {
    FAIL_IF_TOLD
    std::strncpy(name, "Stand-in GeForce", size_t(n));
    return 0;
}

API(cuDeviceTotalMem_v2)(size_t* n, int) {
    *n = total_bytes();
    return 0;
}

API(cuDeviceGetAttribute)(int* value, int attribute, int) {
    FAIL_IF_TOLD
    const int sm = std::atoi(setting("STANDIN_ARCH", "sm_90") + 3);
    switch (attribute) {
        case 10: *value = 32; break;       // warp
        case 16: *value = unit_count(); break;  // multiprocessors
        case 18: *value = 0; break;        // integrated
        case 75: *value = sm / 10; break;  // compute capability
        case 76: *value = sm % 10; break;
        default: return kInvalidValue;
    }
    return 0;
}

API(cuDevicePrimaryCtxRetain)(void** context, int) {
    FAIL_IF_TOLD
    static int the_context;
    *context = &the_context;
    return 0;
}

API(cuCtxSetCurrent)(void*) { FAIL_IF_TOLD return 0; }

API(cuMemGetInfo_v2)(size_t* free, size_t* total) {
    FAIL_IF_TOLD
    *total = total_bytes();
    *free = *total - used_bytes;
    return 0;
}

API(cuMemAlloc_v2)(Address* address, size_t n) {
    FAIL_IF_TOLD
    void* found = nullptr;
    const Code code = allocate(&found, n);
    *address = reinterpret_cast<Address>(found);
    return code;
}

API(cuMemFree_v2)(Address address) { FAIL_IF_TOLD return release(pointer(address)); }

API(cuMemHostAlloc)(void** address, size_t n, unsigned) {
    FAIL_IF_TOLD
    *address = std::calloc(n ? n : 1, 1);
    return 0;
}

API(cuMemcpyHtoDAsync_v2)(Address to, const void* from, size_t n, void* stream) {
    FAIL_IF_TOLD
    return copy(pointer(to), On::kDevice, from, On::kHost, n, stream);
}

API(cuMemcpyDtoHAsync_v2)(void* to, Address from, size_t n, void* stream) {
    FAIL_IF_TOLD
    return copy(to, On::kHost, pointer(from), On::kDevice, n, stream);
}

API(cuMemcpyDtoDAsync_v2)(Address to, Address from, size_t n, void* stream) {
    FAIL_IF_TOLD
    return copy(pointer(to), On::kDevice, pointer(from), On::kDevice, n, stream);
}

API(cuModuleLoadData)(void** module, const void* image) {
    FAIL_IF_TOLD
    return load_module(module, image);
}

API(cuModuleGetFunction)(void** function, void* module, const char* name) {
    FAIL_IF_TOLD
    return find_function(function, module, name);
}

// cuda.h: CUlaunchConfig.
struct LaunchAttribute {
    unsigned id, pad, value[16];
};
struct LaunchConfig {
    unsigned grid[3], block[3], shared_bytes;
    void* stream;
    const LaunchAttribute* attributes;
    unsigned n_attributes;
};

API(cuLaunchKernelEx)(const LaunchConfig* config, void* function, void** params, void**) {
    FAIL_IF_TOLD
    constexpr unsigned kClusterDimension = 4;
    const unsigned* grid = config->grid;
    unsigned n_blocks = 1;
    for (unsigned i = 0; i < config->n_attributes; ++i) {
        const LaunchAttribute& attribute = config->attributes[i];
        if (attribute.id == kClusterDimension) n_blocks = attribute.value[0];
    }
    if (n_blocks == 0 || n_blocks > 8 || grid[0] % n_blocks > 0) return kInvalidValue;
    return launch(
        function,
        {grid[0], grid[1], grid[2], config->block[0], config->shared_bytes, n_blocks},
        params, config->stream);
}

API(cuLaunchKernel)(void* function, unsigned nx, unsigned ny, unsigned nz, unsigned threads,
                    unsigned, unsigned, unsigned shared_bytes, void* stream, void** params,
                    void**) {
    FAIL_IF_TOLD
    return launch(function, {nx, ny, nz, threads, shared_bytes}, params, stream);
}

API(cuFuncSetAttribute)(void*, int attribute, int value) {
    FAIL_IF_TOLD
    if (attribute != 8 || value > 227 * 1024) return kInvalidValue;
    most_shared_bytes = 227 * 1024;
    return 0;
}

API(cuEventCreate)(void** event, unsigned) { FAIL_IF_TOLD return new_event(event); }
API(cuEventRecord)(void* event, void* stream) { FAIL_IF_TOLD return mark_event(event, stream); }
API(cuEventSynchronize)(void* event) { FAIL_IF_TOLD return wait_for_event(event); }

API(cuStreamCreate)(void** stream, unsigned) { FAIL_IF_TOLD return new_stream(stream); }
API(cuStreamSynchronize)(void* stream) {
    FAIL_IF_TOLD
    return stream_of(stream)->synchronize();
}

API(cuStreamBeginCapture_v2)(void* stream, int) { FAIL_IF_TOLD return begin_recording(stream); }
API(cuStreamEndCapture)(void* stream, void** graph) {
    FAIL_IF_TOLD
    return end_recording(stream, graph);
}

API(cuGraphInstantiateWithFlags)(void** runnable, void* graph, unsigned long long) {
    FAIL_IF_TOLD
    *runnable = graph;
    return 0;
}

API(cuGraphDestroy)(void*) { return 0; }

API(cuGraphLaunch)(void* graph, void* stream) {
    FAIL_IF_TOLD
    return run_graph(static_cast<Graph*>(graph), stream);
}
