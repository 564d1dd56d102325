// The device that both stand-in drivers drive: memory, streams, graphs, modules of emulated kernels.
//
// Work is done when a stream is synchronized, never before: whoever reads a result or reuses memory
// too early notices. Addresses are checked, as a device's memory unit would.
// STANDIN_MEMORY    bytes of memory (default 1 GiB)
// STANDIN_FAIL      "call=code" or "call=code@n": what the call returns, from its n-th time on
// Error numbers are those HIP and CUDA share. A number that means the device is lost is returned by
// every later call.
#pragma once

#include <dlfcn.h>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace standin {

using Code = int;
constexpr Code kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kNoBinary = 209;
constexpr Code kInvalidHandle = 400, kNotFound = 500, kIllegalAddress = 700;

inline const char* setting(const char* name, const char* fallback) {
    const char* value = std::getenv(name);
    return value ? value : fallback;
}

// Blocks run one after another: those that wait for each other must not be more than one.
inline int unit_count() {
    return std::atoi(setting("STANDIN_UNITS", "1"));
}

// ---- injected failures ----

inline Code lost_code = kSuccess;

inline Code noted(Code code) {
    const bool is_lost = (code >= 700 && code < 800) || code == 999 || code == 214 || code == 4;
    if (is_lost) lost_code = code;
    return code;
}

inline Code failure(const char* call) {
    if (lost_code != kSuccess) return lost_code;
    const std::string wanted = setting("STANDIN_FAIL", "");
    const size_t equals = wanted.find('=');
    if (equals == std::string::npos || wanted.substr(0, equals) != call) return kSuccess;
    static int n_calls = 0;
    const size_t at = wanted.find('@');
    const int first = at == std::string::npos ? 1 : std::atoi(wanted.c_str() + at + 1);
    return ++n_calls < first ? kSuccess : noted(std::atoi(wanted.c_str() + equals + 1));
}

// ---- memory ----

inline std::map<uintptr_t, size_t> allocations;
inline size_t used_bytes = 0;

inline size_t total_bytes() {
    return std::strtoull(setting("STANDIN_MEMORY", "1073741824"), nullptr, 10);
}

inline Code allocate(void** address, size_t n_bytes) {
    if (n_bytes == 0 || n_bytes > total_bytes() - used_bytes) return kOutOfMemory;
    *address = std::aligned_alloc(256, (n_bytes + 255) & ~size_t(255));
    std::memset(*address, 0xFF, n_bytes);
    allocations[uintptr_t(*address)] = n_bytes;
    used_bytes += n_bytes;
    return kSuccess;
}

inline bool owns(const void* address, size_t n_bytes) {
    auto above = allocations.upper_bound(uintptr_t(address));
    if (above == allocations.begin()) return false;
    const auto& [start, size] = *--above;
    return uintptr_t(address) + n_bytes <= start + size;
}

// ---- work ----

using Work = std::function<Code()>;

struct Graph {
    std::vector<Work> works;
};

struct Stream {
    std::vector<Work> queue;
    std::unique_ptr<Graph> recording;

    Code add(Work work) {
        (recording ? recording->works : queue).push_back(std::move(work));
        return kSuccess;
    }

    Code synchronize() {
        if (recording) return 900;  // a synchronization while work is being recorded
        std::vector<Work> works;
        works.swap(queue);
        for (const Work& work : works)
            if (const Code code = work()) return noted(code);
        return kSuccess;
    }
};

inline Stream default_stream;
inline std::vector<std::unique_ptr<Stream>> streams;

inline Stream* stream_of(void* handle) {
    return handle ? static_cast<Stream*>(handle) : &default_stream;
}

inline Code release(void* address) {
    for (const auto& stream : streams)
        if (const Code code = stream->synchronize()) return code;
    const auto found = allocations.find(uintptr_t(address));
    if (found == allocations.end()) return kInvalidValue;
    used_bytes -= found->second;
    allocations.erase(found);
    std::free(address);
    return kSuccess;
}

enum class On { kHost, kDevice };

inline Code copy(void* to, On to_where, const void* from, On from_where, size_t n, void* stream) {
    return stream_of(stream)->add([=]() -> Code {
        if (to_where == On::kDevice && !owns(to, n)) return kIllegalAddress;
        if (from_where == On::kDevice && !owns(from, n)) return kIllegalAddress;
        std::memmove(to, from, n);
        return kSuccess;
    });
}

inline Code run_graph(Graph* graph, void* stream) {
    return stream_of(stream)->add([=]() -> Code {
        for (const Work& work : graph->works)
            if (const Code code = work()) return code;
        return kSuccess;
    });
}

// ---- kernels ----

struct Function {
    int (*entry)(int nx, int ny, int nz, int n_threads, int shared_bytes, int n_blocks,
                 const void* args);
    int n_args_bytes;
};

// An image is a shared library of kernels emulated on the host (native/gpu/platform_emulated.h).
inline Code load_module(void** module, const void* image) {
    const auto* header = static_cast<const Elf64_Ehdr*>(image);
    if (std::memcmp(header, ELFMAG, SELFMAG) != 0 || header->e_machine != EM_X86_64)
        return kNoBinary;
    const size_t n_bytes = header->e_shoff + size_t(header->e_shnum) * header->e_shentsize;
    const int file = memfd_create("module", 0);
    if (write(file, image, n_bytes) != ssize_t(n_bytes)) return kNoBinary;
    // It stays open: another module must have another name, or it would be taken for this one.
    *module = dlopen(("/proc/self/fd/" + std::to_string(file)).c_str(), RTLD_NOW | RTLD_LOCAL);
    return *module ? kSuccess : kNoBinary;
}

inline Code find_function(void** function, void* module, const char* name) {
    void* entry = dlsym(module, (std::string(name) + "__launch").c_str());
    void* size = dlsym(module, (std::string(name) + "__args_bytes").c_str());
    if (!entry || !size) return kNotFound;
    *function = new Function{reinterpret_cast<decltype(Function::entry)>(entry),
                             reinterpret_cast<int (*)()>(size)()};
    return kSuccess;
}

// What a block may have of it beside a kernel's own, until a kernel is allowed more.
inline unsigned most_shared_bytes = 48 * 1024;

struct Shape {
    unsigned nx, ny, nz, n_threads, shared_bytes, n_blocks = 1;  // of a cluster
};

// The one argument is read now, as a driver does, and used later.
inline Code launch(void* handle, Shape shape, void** params, void* stream) {
    if (shape.nx == 0 || shape.ny == 0 || shape.nz == 0) return kInvalidValue;
    if (shape.n_threads == 0 || shape.n_threads > 1024) return kInvalidValue;
    if (shape.shared_bytes > most_shared_bytes) return kInvalidValue;
    const auto* function = static_cast<Function*>(handle);
    const auto* bytes = static_cast<const unsigned char*>(params[0]);
    std::vector<unsigned char> args(bytes, bytes + function->n_args_bytes);
    return stream_of(stream)->add([function, shape, args = std::move(args)]() -> Code {
        const int failed =
            function->entry(int(shape.nx), int(shape.ny), int(shape.nz), int(shape.n_threads),
                            int(shape.shared_bytes), int(shape.n_blocks), args.data());
        return failed ? kIllegalAddress : kSuccess;
    });
}

// Happens when a stream has come so far; it is waited for by doing all of the stream's work.
struct Event {
    void* stream = nullptr;
};

inline Code new_event(void** event) {
    *event = new Event;
    return kSuccess;
}

inline Code mark_event(void* event, void* stream) {
    if (stream_of(stream)->recording) return kInvalidHandle;
    static_cast<Event*>(event)->stream = stream;
    return kSuccess;
}

inline Code wait_for_event(void* event) {
    return stream_of(static_cast<Event*>(event)->stream)->synchronize();
}

inline Code new_stream(void** stream) {
    streams.push_back(std::make_unique<Stream>());
    *stream = streams.back().get();
    return kSuccess;
}

inline Code begin_recording(void* stream) {
    stream_of(stream)->recording = std::make_unique<Graph>();
    return kSuccess;
}

inline Code end_recording(void* stream, void** graph) {
    *graph = stream_of(stream)->recording.release();
    return *graph ? kSuccess : kInvalidHandle;
}

}  // namespace standin

// A driver's function: `API(hipMalloc)(void** p, size_t n) CALL { ... }` fails when it is told to.
#define API(name) extern "C" __attribute__((visibility("default"))) int name
#define FAIL_IF_TOLD                                                  \
    if (const standin::Code code = standin::failure(__func__); code != 0) \
        return code;
