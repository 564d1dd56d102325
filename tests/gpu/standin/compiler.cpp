// libhiprtc.so and libnvrtc.so: compile kernels for emulation on the host, whatever architecture is
// asked for. PREFIX is hiprtc or nvrtc, IMAGE what its image is called: Code or CUBIN. Every
// compilation adds a line of its options to the file STANDIN_COMPILATIONS.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define API(name) extern "C" __attribute__((visibility("default"))) int JOIN(PREFIX, name)

struct Program {
    std::string source, image, log;
};

static std::string content_of(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
}

API(Version)(int* major, int* minor) {
    *major = 13;
    *minor = 0;
    return 0;
}

API(CreateProgram)(Program** program, const char* source, const char*, int, const char**,
                   const char**) {
    *program = new Program{source, "", ""};
    return 0;
}

API(CompileProgram)(Program* program, int n_options, const char** options) {
    char folder[] = "/tmp/standin-XXXXXX";
    if (!mkdtemp(folder)) return 7;
    const std::string path = folder, source = path + "/kernels.cpp";
    std::ofstream(source) << program->source;
    const int failed = std::system(("c++ -std=c++20 -O1 -ffp-contract=off -w -DGPU_EMULATED -shared "
                                    "-fPIC " + source + " -o " + path + "/image 2>" + path + "/log")
                                       .c_str());
    program->image = content_of(path + "/image");
    program->log = content_of(path + "/log");
    std::system(("rm -r " + path).c_str());
    if (const char* file = std::getenv("STANDIN_COMPILATIONS")) {
        std::ofstream lines(file, std::ios::app);
        for (int i = 0; i < n_options; ++i) lines << options[i] << ' ';
        lines << '\n';
    }
    return failed ? 6 : 0;
}

API(GetProgramLogSize)(Program* program, size_t* n) {
    *n = program->log.size() + 1;
    return 0;
}

API(GetProgramLog)(Program* program, char* log) {
    program->log.copy(log, program->log.size());
    log[program->log.size()] = 0;
    return 0;
}

API(JOIN(JOIN(Get, IMAGE), Size))(Program* program, size_t* n) {
    *n = program->image.size();
    return 0;
}

API(JOIN(Get, IMAGE))(Program* program, char* image) {
    program->image.copy(image, program->image.size());
    return 0;
}

API(DestroyProgram)(Program** program) {
    delete *program;
    *program = nullptr;
    return 0;
}
