// libamdhip64.so over the stand-in device. STANDIN_ARCH is what it says it is (default gfx1151),
// STANDIN_VERSION its HIP_VERSION, STANDIN_DEVICES how many there are.
#include "device.h"

using namespace standin;

API(hipInit)(unsigned) { FAIL_IF_TOLD return 0; }

API(hipRuntimeGetVersion)(int* version) {
    *version = std::atoi(setting("STANDIN_VERSION", "70253211"));
    return 0;
}

API(hipGetDeviceCount)(int* n) {
    FAIL_IF_TOLD
    *n = std::atoi(setting("STANDIN_DEVICES", "1"));
    return *n == 0 ? 100 : 0;
}

API(hipSetDevice)(int) { FAIL_IF_TOLD return 0; }

// Where the members of hipDeviceProp_tR0600 lie.
API(hipGetDevicePropertiesR0600)(char* found, int) {
    FAIL_IF_TOLD
    std::memset(found, 0, 1472);
    std::strcpy(found, "Stand-in Radeon");
    const size_t memory = total_bytes(), shared = 65536;
    const int warp = 32, most_threads = 1024, n_units = unit_count(), is_integrated = 1;
    std::memcpy(found + 288, &memory, sizeof memory);
    std::memcpy(found + 296, &shared, sizeof shared);
    std::memcpy(found + 308, &warp, sizeof warp);
    std::memcpy(found + 320, &most_threads, sizeof most_threads);
    std::memcpy(found + 388, &n_units, sizeof n_units);
    std::memcpy(found + 396, &is_integrated, sizeof is_integrated);
    std::strcpy(found + 1160, setting("STANDIN_ARCH", "gfx1151"));
    return 0;
}

API(hipMemGetInfo)(size_t* free, size_t* total) {
    FAIL_IF_TOLD
    *total = total_bytes();
    *free = *total - used_bytes;
    return 0;
}

API(hipMalloc)(void** address, size_t n) { FAIL_IF_TOLD return allocate(address, n); }
API(hipFree)(void* address) { FAIL_IF_TOLD return release(address); }

API(hipHostMalloc)(void** address, size_t n, unsigned) {
    FAIL_IF_TOLD
    *address = std::calloc(n ? n : 1, 1);
    return 0;
}

API(hipMemcpyAsync)(void* to, const void* from, size_t n, int kind, void* stream) {
    FAIL_IF_TOLD
    // hipMemcpyHostToDevice, hipMemcpyDeviceToHost, hipMemcpyDeviceToDevice
    if (kind < 1 || kind > 3) return kInvalidValue;
    return copy(to, kind == 2 ? On::kHost : On::kDevice, from,
                kind == 1 ? On::kHost : On::kDevice, n, stream);
}

API(hipModuleLoadData)(void** module, const void* image) {
    FAIL_IF_TOLD
    return load_module(module, image);
}

API(hipModuleGetFunction)(void** function, void* module, const char* name) {
    FAIL_IF_TOLD
    return find_function(function, module, name);
}

API(hipModuleLaunchKernel)(void* function, unsigned nx, unsigned ny, unsigned nz, unsigned threads,
                           unsigned, unsigned, unsigned shared_bytes, void* stream, void** params,
                           void**) {
    FAIL_IF_TOLD
    return launch(function, {nx, ny, nz, threads, shared_bytes}, params, stream);
}

API(hipEventCreateWithFlags)(void** event, unsigned) { FAIL_IF_TOLD return new_event(event); }
API(hipEventRecord)(void* event, void* stream) { FAIL_IF_TOLD return mark_event(event, stream); }
API(hipEventSynchronize)(void* event) { FAIL_IF_TOLD return wait_for_event(event); }

API(hipStreamCreateWithFlags)(void** stream, unsigned) { FAIL_IF_TOLD return new_stream(stream); }
API(hipStreamSynchronize)(void* stream) {
    FAIL_IF_TOLD
    return stream_of(stream)->synchronize();
}

API(hipStreamBeginCapture)(void* stream, int) { FAIL_IF_TOLD return begin_recording(stream); }
API(hipStreamEndCapture)(void* stream, void** graph) {
    FAIL_IF_TOLD
    return end_recording(stream, graph);
}

API(hipGraphInstantiateWithFlags)(void** runnable, void* graph, unsigned long long) {
    FAIL_IF_TOLD
    *runnable = graph;
    return 0;
}

API(hipGraphDestroy)(void*) { return 0; }

API(hipGraphLaunch)(void* graph, void* stream) {
    FAIL_IF_TOLD
    return run_graph(static_cast<Graph*>(graph), stream);
}
