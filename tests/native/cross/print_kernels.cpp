// Prints what every kernel of one instruction set makes of fixed data, so that processors can be
// compared: a line per case, its name and its values as hexadecimal bits.
// usage: print_kernels ISA    ("best": prints only the name of the set chosen for this processor)
#include <bit>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "../../../native/cpu/error.h"
#include "../../../native/cpu/kernels.h"

using namespace native::cpu;

namespace {

// xorshift32; every number is derived with exact arithmetic, so all processors get the same data.
class Random {
public:
    explicit Random(uint32_t seed) : state_(seed) {}
    uint32_t bits() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 17;
        state_ ^= state_ << 5;
        return state_;
    }
    // In [-4, 4).
    float number() { return float(int32_t(bits()) >> 8) * 0x1p-21f; }
    // A finite half of magnitude 2^-7 to 2^-3.
    uint16_t half() { return uint16_t((bits() & 0x8fff) | 0x2000); }
    std::vector<float> numbers(int64_t n) {
        std::vector<float> values(static_cast<size_t>(n));
        for (float& value : values) value = number();
        return values;
    }
    std::vector<uint16_t> halves(int64_t n) {
        std::vector<uint16_t> values(static_cast<size_t>(n));
        for (uint16_t& value : values) value = half();
        return values;
    }

private:
    uint32_t state_;
};

template <class T>
void print(const std::string& name, const std::vector<T>& values) {
    std::printf("%s", name.c_str());
    for (const T& value : values) {
        if constexpr (sizeof(T) == 4) {
            std::printf(" %08" PRIx32, std::bit_cast<uint32_t>(value));
        } else {
            const auto bits = static_cast<std::make_unsigned_t<T>>(value);
            std::printf(" %0*x", int(2 * sizeof(T)), unsigned(bits));
        }
    }
    std::printf("\n");
}

// Activations with room for T rows of either format.
class Quantized {
public:
    Quantized(const Kernels& kernels, ActivationFormat format, const std::vector<float>& x,
              int64_t n_rows, int64_t n_cols)
        : q(x.size()), scale(x.size() / kBlock), sum(x.size() / kBlock) {
        const auto quantize =
            format == ActivationFormat::kQ8 ? kernels.quantize_q8 : kernels.quantize_q8k;
        for (int64_t t = 0; t < n_rows; ++t)
            quantize(x.data() + t * n_cols, n_cols, view(n_rows), t);
    }
    Activations view(int64_t n_rows) { return {q.data(), scale.data(), sum.data(), n_rows}; }

    std::vector<int8_t> q;
    std::vector<float> scale;
    std::vector<int32_t> sum;
};

enum class Fill { kRandom, kHighest, kLowest };

struct WeightCase {
    WeightType type;
    std::vector<size_t> halves;  // where a block's scales lie
};

const WeightCase kWeights[] = {
    {WeightType::kF32, {}},      {WeightType::kF16, {}},      {WeightType::kBF16, {}},
    {WeightType::kQ4_0, {0}},    {WeightType::kQ4_1, {0, 2}}, {WeightType::kQ5_0, {0}},
    {WeightType::kQ5_1, {0, 2}}, {WeightType::kQ8_0, {0}},    {WeightType::kQ4_K, {0, 2}},
    {WeightType::kQ5_K, {0, 2}}, {WeightType::kQ6_K, {208}},  {WeightType::kIQ4_NL, {0}},
};

// Random bits with finite scales. The extremes set every quant and sub-scale to the same byte.
std::vector<uint8_t> weight_bytes(const WeightCase& weight, int64_t n_bytes, Fill fill,
                                  Random& random) {
    std::vector<uint8_t> bytes(static_cast<size_t>(n_bytes));
    for (uint8_t& byte : bytes)
        byte = fill == Fill::kRandom ? uint8_t(random.bits()) : fill == Fill::kHighest ? 255 : 128;
    const auto put = [&](size_t at, uint32_t value, size_t size) {
        std::memcpy(bytes.data() + at, &value, size);
    };
    const auto size = size_t(traits(weight.type).block_bytes);
    for (size_t at = 0; at < bytes.size(); at += size) {
        const auto number = std::bit_cast<uint32_t>(random.number());
        if (weight.type == WeightType::kF32) put(at, number, 4);
        if (weight.type == WeightType::kF16) put(at, random.half(), 2);
        if (weight.type == WeightType::kBF16) put(at, number >> 16, 2);
        for (const size_t offset : weight.halves) put(at + offset, random.half(), 2);
    }
    return bytes;
}

void print_linear(const Kernels& kernels, const WeightCase& weight, Fill fill, int64_t n_rows,
                  int64_t n_out, int64_t n_cols) {
    Random random(uint32_t(1000 * n_rows + n_out + n_cols));
    const int64_t bytes_per_row = row_bytes(weight.type, n_cols);
    const auto bytes = weight_bytes(weight, bytes_per_row * n_out, fill, random);
    auto x = random.numbers(n_rows * n_cols);
    if (fill != Fill::kRandom)
        for (size_t i = 0; i < x.size(); ++i) x[i] = int64_t(i) / n_cols % 2 ? -1.0f : 1.0f;
    const auto bias = random.numbers(n_out), residual = random.numbers(n_rows * n_out);
    std::vector<float> out(static_cast<size_t>(n_rows * n_out));

    LinearArgs args{};
    args.type = weight.type;
    args.weight = bytes.data();
    args.row_bytes = bytes_per_row;
    args.n_cols = n_cols;
    args.n_out = n_out;
    args.n_rows = n_rows;
    args.out = out.data();
    if (fill == Fill::kRandom && n_rows > 1) {
        args.bias = bias.data();
        args.residual = residual.data();
    }
    std::optional<Quantized> quantized;
    const ActivationFormat format = traits(weight.type).activation;
    if (format == ActivationFormat::kF32) {
        args.x = x.data();
    } else {
        quantized.emplace(kernels, format, x, n_rows, n_cols);
        args.activations = quantized->view(n_rows);
    }
    // As two threads would share it out.
    const int64_t split = n_out > kRowGroup ? kRowGroup : n_out;
    kernels.linear(args, 0, split);
    if (split < n_out) kernels.linear(args, split, n_out);
    const char* fills[] = {"", ":highest", ":lowest"};
    const std::string shape =
        std::to_string(n_rows) + "x" + std::to_string(n_out) + "x" + std::to_string(n_cols);
    print(std::string("linear:") + traits(weight.type).name + fills[int(fill)] + ":" + shape, out);
}

void print_linears(const Kernels& kernels) {
    for (const WeightCase& weight : kWeights) {
        const int64_t block = traits(weight.type).block_elements;
        const int64_t n_cols = block == 1 ? 301 : block == kBlock ? 96 : 2 * kSuperBlock;
        for (const int64_t n_rows : {1, 3, 8, 67})
            for (const int64_t n_out : {5, 27, 48})
                print_linear(kernels, weight, Fill::kRandom, n_rows, n_out, n_cols);
        if (block == 1) continue;
        print_linear(kernels, weight, Fill::kHighest, 2, 17, n_cols);
        print_linear(kernels, weight, Fill::kLowest, 2, 17, n_cols);
    }
}

void print_quantized(const Kernels& kernels) {
    constexpr int64_t n_rows = 3, n_cols = 512;
    auto x = Random(2).numbers(n_rows * n_cols);
    for (int64_t i = 0; i < kSuperBlock; ++i) x[size_t(i)] = 0;  // a block of zeros
    x[size_t(n_cols + 7)] = __builtin_nanf("");
    x[size_t(2 * n_cols + 300)] = __builtin_inff();
    for (const auto format : {ActivationFormat::kQ8, ActivationFormat::kQ8K}) {
        const std::string name = format == ActivationFormat::kQ8 ? "quantize_q8" : "quantize_q8k";
        const Quantized quantized(kernels, format, x, n_rows, n_cols);
        print(name + ":q", quantized.q);
        print(name + ":scale", quantized.scale);
        print(name + ":sum", quantized.sum);
    }
}

void print_elementwise(const Kernels& kernels) {
    Random random(3);
    for (const int64_t n : {8, 67, 576}) {
        const auto x = random.numbers(n), weight = random.numbers(n);
        std::vector<float> y(x.size());
        const std::string size = std::to_string(n);
        kernels.rms_norm(x.data(), weight.data(), 1e-5f, y.data(), n);
        print("rms_norm:" + size, y);
        auto gate = x;
        for (size_t i = 0; i < gate.size(); ++i) gate[i] *= i % 5 == 0 ? 32.0f : 1.0f;
        kernels.silu_mul(gate.data(), weight.data(), y.data(), n);
        print("silu_mul:" + size, y);
        print("argmax:" + size, std::vector<int32_t>{int32_t(kernels.argmax(x.data(), n))});
        std::vector<int32_t> ids(std::min<size_t>(5, size_t(n)));
        std::vector<float> log_probs(ids.size());
        kernels.top_k(x.data(), n, int64_t(ids.size()), ids.data(), log_probs.data());
        print("top_k_ids:" + size, ids);
        print("top_k_log_probs:" + size, log_probs);
    }
    for (const bool is_neox : {false, true}) {
        auto x = random.numbers(3 * 64);
        const auto cos = random.numbers(24), sin = random.numbers(24);
        kernels.rope(x.data(), cos.data(), sin.data(), 3, 64, 48, is_neox);
        print(is_neox ? "rope:neox" : "rope", x);
    }
    auto x = random.numbers(83);
    // A tie, the smallest normal half and a subnormal one, overflow, and infinity.
    const float edges[] = {1.00048828125f, 0x1p-14f, 0x1.8p-24f, 65520.0f, -__builtin_inff()};
    std::memcpy(x.data() + 3, edges, sizeof edges);
    std::memcpy(x.data() + 78, edges, sizeof edges);
    std::vector<uint16_t> halves(x.size());
    kernels.to_half(x.data(), halves.data(), int64_t(x.size()));
    print("to_half", halves);
}

std::vector<uint8_t> kv_bytes(KvType type, int64_t head_dim, Random& random) {
    const int64_t n = head_dim * kKvBlock, n_scales = kv_groups(head_dim) * kKvBlock;
    std::vector<uint8_t> bytes;
    if (type == KvType::kQ8_0)
        for (int64_t i = 0; i < n; ++i) bytes.push_back(uint8_t(random.bits()));
    for (const uint16_t half : random.halves(type == KvType::kQ8_0 ? n_scales : n)) {
        bytes.push_back(uint8_t(half));
        bytes.push_back(uint8_t(half >> 8));
    }
    return bytes;
}

// Two tiles in turn, queries that see different numbers of keys; expanded first, or as cached.
void print_attention(const Kernels& kernels, KvType type, int64_t head_dim, int64_t n_queries,
                     bool is_expanded) {
    Random random(uint32_t(head_dim + n_queries));
    const auto q = random.numbers(n_queries * head_dim);
    std::vector<float> k(static_cast<size_t>(head_dim * kKvBlock)), v(k);
    std::vector<float> out(static_cast<size_t>(n_queries * head_dim)), max, sum;
    const FloatTile floats{k.data(), v.data(), head_dim};
    std::vector<TileQuery> queries;
    for (int64_t n = 0; n < n_queries; ++n)
        queries.push_back({q.data() + n * head_dim, out.data() + n * head_dim, n % 5,
                           33 + 9 * n % 32, -__builtin_inff(), 0});
    for (int64_t first = 0; first < 2 * kKvBlock; first += kKvBlock) {
        const auto k_bytes = kv_bytes(type, head_dim, random);
        const auto v_bytes = kv_bytes(type, head_dim, random);
        const KvTile tile{type, k_bytes.data(), v_bytes.data()};
        if (is_expanded) {
            kernels.expand_tile(tile, floats);
            kernels.attend_tile(queries.data(), n_queries, floats, first, 0.7f);
        } else {
            kernels.attend_kv_tile(queries.data(), n_queries, tile, floats, first, 0.7f);
        }
    }
    const std::string name = std::string(type == KvType::kF16 ? "f16" : "q8_0") +
                             (is_expanded ? ":expanded:" : ":cached:") + std::to_string(head_dim) +
                             "x" + std::to_string(n_queries);
    for (const TileQuery& query : queries) {
        max.push_back(query.max);
        sum.push_back(query.sum);
        kernels.finish_attention(query.out, query.sum, head_dim);
    }
    if (is_expanded) {
        print("expand_keys:" + name, k);
        print("expand_values:" + name, v);
    }
    print("attention_max:" + name, max);
    print("attention_sum:" + name, sum);
    print("attention:" + name, out);
}

void print_attentions(const Kernels& kernels) {
    for (const KvType type : {KvType::kF16, KvType::kQ8_0})
        for (const int64_t head_dim : {64, 72, 128})
            for (const int64_t n_queries : {1, 2, 5, 9})
                for (const bool is_expanded : {false, true})
                    print_attention(kernels, type, head_dim, n_queries, is_expanded);
    auto x = Random(4).numbers(72);
    std::vector<float> rotated(x.size());
    kernels.rotate_groups(x.data(), int64_t(x.size()), 0.5f, rotated.data());
    print("rotate_groups", rotated);
    x[40] = __builtin_inff();
    std::vector<int8_t> q(x.size());
    std::vector<uint16_t> scales(3);
    kernels.quantize_kv(x.data(), int64_t(x.size()), q.data(), scales.data());
    print("quantize_kv:q", q);
    print("quantize_kv:scales", scales);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: print_kernels ISA\n");
        return 2;
    }
    try {
        const bool is_best = std::strcmp(argv[1], "best") == 0;
        const Kernels& chosen = kernels(is_best ? nullptr : argv[1]);
        if (is_best) {
            std::printf("%s\n", chosen.isa);
            return 0;
        }
        print_linears(chosen);
        print_quantized(chosen);
        print_elementwise(chosen);
        print_attentions(chosen);
    } catch (const Error& error) {
        std::fprintf(stderr, "%s: %s\n", error.op().c_str(), error.what());
        return 3;
    }
    return 0;
}
