// The Python module engine._native: thin, checked views of ThreadPool, KvCache and Plan, and the
// growing of trees.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

#include "error.h"
#include "occurrences.h"
#include "plan.h"
#include "tree.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace native::cpu;

namespace {

using Ints = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using FloatView = nb::ndarray<nb::numpy, const float, nb::ndim<2>>;

void raise_native_error(const std::exception_ptr& error, void*) {
    try {
        std::rethrow_exception(error);
    } catch (const Error& e) {
        const nb::object type = nb::module_::import_("engine.errors").attr("NativeError");
        PyErr_SetObject(type.ptr(), nb::make_tuple(e.op(), e.what()).ptr());
    }
}

const char* isa_or_null(const std::string& isa) {
    return isa.empty() ? nullptr : isa.c_str();
}

bool step(Plan& plan, KvCache* kv, const Ints& tokens, const Ints& positions, const Ints& parents,
          const Ints& blocks, int64_t n_past, const Ints& out_rows) {
    require(positions.size() == tokens.size() && parents.size() == tokens.size(), "step",
            "tokens, positions and parents differ in length");
    const StepInputs inputs{tokens.data(),
                            positions.data(),
                            parents.data(),
                            int64_t(tokens.size()),
                            blocks.data(),
                            int64_t(blocks.size()),
                            n_past,
                            out_rows.data(),
                            int64_t(out_rows.size()),
                            kv};
    nb::gil_scoped_release unlocked;
    return plan.step(inputs);
}

template <typename T>
nb::object numpy_copy(const T* values, size_t n, const size_t (&shape)[2]) {
    auto* copy = new T[n];
    std::copy_n(values, n, copy);
    nb::capsule owner(copy, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return nb::cast(nb::ndarray<nb::numpy, T, nb::ndim<2>>(copy, 2, shape, owner));
}

// A view of the plan's memory: valid until the next step.
FloatView view_of(nb::handle self, int id, int64_t n_rows) {
    const Plan& plan = nb::cast<const Plan&>(self);
    const size_t shape[2] = {size_t(n_rows), size_t(plan.n_cols(id))};
    return FloatView(plan.activation(id), 2, shape, self);
}

// Copies of the last step's top k: ids (R, k) and their log-probabilities.
nb::tuple top_k_of(const Plan& plan, int64_t n_rows) {
    const TopK& top = plan.top_k_result();
    const auto n = size_t(n_rows * top.k);
    require(n_rows >= 0 && n <= top.ids.size(), "top_k",
            std::to_string(n_rows) + " rows asked for, more than a step has");
    const size_t shape[2] = {size_t(n_rows), size_t(top.k)};
    return nb::make_tuple(numpy_copy(top.ids.data(), n, shape),
                          numpy_copy(top.log_probs.data(), n, shape));
}

using Ids = nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using ChainParts = std::pair<std::vector<int32_t>, std::vector<double>>;

using Doubles = nb::ndarray<const double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

Costs costs_of(const Doubles& table) {
    require(table.shape(0) == 2, "costs", "expected what steps cost and what another row does");
    return {table.data(), table.data() + table.shape(1), int64_t(table.shape(1))};
}

template <typename T>
nb::object tuple_of(const std::vector<T>& values) {
    nb::object tuple = nb::steal(PyTuple_New(Py_ssize_t(values.size())));
    for (size_t i = 0; i < values.size(); ++i)
        PyTuple_SET_ITEM(tuple.ptr(), Py_ssize_t(i), nb::cast(values[i]).release().ptr());
    return tuple;
}

nb::object grown_tree(int32_t root, const Ids& ids, const Floats& log_probs,
                      const std::vector<ChainParts>& chains, int64_t budget, int64_t max_depth,
                      const Doubles& costs) {
    require(ids.shape(0) == log_probs.shape(0) && ids.shape(1) == log_probs.shape(1), "grow_tree",
            "ids and log-probabilities differ in shape");
    Sources sources{
        root, ids.data(), log_probs.data(), int64_t(ids.shape(0)), int64_t(ids.shape(1)),
        {},   max_depth};
    for (const auto& [tokens, of_tokens] : chains) sources.chains.push_back({tokens, of_tokens});
    const Tree tree = grow_tree(sources, budget, costs_of(costs));
    return nb::make_tuple(tuple_of(tree.tokens), tuple_of(tree.parents), tuple_of(tree.log_probs),
                          tuple_of(tree.sources));
}

nb::object best_size_of(const std::vector<double>& log_probs, const Doubles& costs,
                        int64_t most_rows) {
    const BestSize best = best_size(log_probs, costs_of(costs), most_rows);
    return nb::make_tuple(best.n_drafts, best.rate, best.rate_of_none, best.n_expected);
}

nb::object occurrences_of(const Ints& ids, int64_t n, int64_t low, int64_t high, int64_t near,
                          int64_t most) {
    require(n <= int64_t(ids.size()), "find_occurrences", "more tokens than there are");
    const Occurrences found = find_occurrences(ids.data(), n, low, high, near, most);
    return nb::make_tuple(found.length, found.latest, found.nearest, found.other_length,
                          found.other);
}

using IntsOut = nb::ndarray<int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using BytesOut = nb::ndarray<uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

bool filled_paths(const Ints& parents, int64_t n_past, const IntsOut& positions,
                  const IntsOut& depth, const BytesOut& path) {
    require(parents.size() <= std::min(positions.size(), depth.size()) &&
                path.shape(0) == path.shape(1),
            "fill_paths", "no room for so many rows");
    return fill_paths(parents.data(), int64_t(parents.size()), n_past, positions.data(),
                      depth.data(), path.data(), int64_t(path.shape(1)));
}

nb::object dequantized(const Bytes& row, int type, int64_t n_cols) {
    const auto weight_type = WeightType(type);
    require(
        int64_t(row.size()) == row_bytes(weight_type, n_cols), "dequantize",
        "got " + std::to_string(row.size()) + " bytes for " + std::to_string(n_cols) + " elements");
    auto* values = new float[size_t(n_cols)];
    nb::capsule owner(values, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    dequantize_row(weight_type, row.data(), values, n_cols);
    const size_t shape[1] = {size_t(n_cols)};
    return nb::cast(nb::ndarray<nb::numpy, float, nb::ndim<1>>(values, 1, shape, owner));
}

}  // namespace

NB_MODULE(_native, m) {
    nb::register_exception_translator(raise_native_error);

    m.attr("KV_BLOCK_TOKENS") = kKvBlock;
    m.attr("FORMAT_Q8") = int(ActivationFormat::kQ8);
    m.attr("FORMAT_Q8K") = int(ActivationFormat::kQ8K);
    m.def("activation_format", [](int type) { return int(traits(WeightType(type)).activation); });
    m.def("quantized_bytes", [](int format, int64_t n_rows, int64_t n_cols) {
        return Plan::quantized_bytes(ActivationFormat(format), n_rows, n_cols);
    });
    m.def("isa_name",
          [](const std::string& isa) { return std::string(kernels(isa_or_null(isa)).isa); });
    m.def("grow_tree", &grown_tree, "root"_a, "ids"_a, "log_probs"_a, "chains"_a, "budget"_a,
          "max_depth"_a, "costs"_a);
    m.def("best_size", &best_size_of, "log_probs"_a, "costs"_a, "most_rows"_a);
    m.def("find_occurrences", &occurrences_of, "ids"_a, "n"_a, "low"_a, "high"_a, "near"_a,
          "most"_a);
    m.def("fill_paths", &filled_paths, "parents"_a, "n_past"_a, "positions"_a, "depth"_a, "path"_a);
    m.def("dequantize", &dequantized, "row"_a, "type"_a, "n_cols"_a);

    nb::class_<ThreadPool>(m, "ThreadPool").def(nb::init<int>(), "n_threads"_a);

    nb::class_<KvCache>(m, "KvCache")
        .def(
            "__init__",
            [](KvCache* self, const std::vector<std::pair<int64_t, int64_t>>& layers, bool is_q8_0,
               int64_t n_blocks) {
                std::vector<KvShape> shapes;
                for (const auto& [n_kv, head_dim] : layers) shapes.push_back({n_kv, head_dim});
                new (self) KvCache(shapes, is_q8_0 ? KvType::kQ8_0 : KvType::kF16, n_blocks);
            },
            "layers"_a, "is_q8_0"_a, "n_blocks"_a)
        .def_prop_ro("block_bytes", &KvCache::block_bytes)
        .def("copy_block", &KvCache::copy_block, "source"_a, "target"_a)
        .def(
            "block_view",
            [](nb::handle self, int64_t block) {
                const KvCache& kv = nb::cast<const KvCache&>(self);
                const size_t shape[1] = {size_t(kv.block_bytes())};
                return nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>>(kv.bytes(block), 1, shape,
                                                                    self);
            },
            "block"_a)
        .def("move_position", &KvCache::move_position, "source"_a, "target"_a);

    nb::class_<Plan>(m, "Plan")
        .def(
            "__init__",
            [](Plan* self, std::shared_ptr<ThreadPool> pool, const std::string& isa,
               int64_t max_rows, int64_t max_out_rows, int64_t arena_bytes) {
                new (self)
                    Plan(std::move(pool), isa_or_null(isa), max_rows, max_out_rows, arena_bytes);
            },
            "pool"_a, "isa"_a, "max_rows"_a, "max_out_rows"_a, "arena_bytes"_a)
        .def(
            "add_weight",
            [](Plan& self, const Bytes& bytes, int type, int64_t n_out, int64_t n_cols) {
                return self.add_weight(bytes.data(), int64_t(bytes.size()), WeightType(type), n_out,
                                       n_cols);
            },
            "bytes"_a, "type"_a, "n_out"_a, "n_cols"_a, nb::keep_alive<1, 2>())
        .def("add_activation", &Plan::add_activation, "offset"_a, "n_cols"_a, "is_out"_a)
        .def(
            "add_quantized",
            [](Plan& self, int64_t offset, int64_t n_cols, int format, bool is_out) {
                return self.add_quantized(offset, n_cols, ActivationFormat(format), is_out);
            },
            "offset"_a, "n_cols"_a, "format"_a, "is_out"_a)
        .def(
            "add_kv_layer",
            [](Plan& self, int64_t layer, int64_t n_kv, int64_t head_dim) {
                return self.add_kv_layer(layer, {n_kv, head_dim});
            },
            "layer"_a, "n_kv"_a, "head_dim"_a)
        .def("embed", &Plan::embed, "out"_a, "table"_a)
        .def("rms_norm", &Plan::rms_norm, "out"_a, "x"_a, "weight"_a, "eps"_a)
        .def("quantize", &Plan::quantize, "out"_a, "x"_a)
        .def("linear", &Plan::linear, "out"_a, "x"_a, "weight"_a, "bias"_a, "residual"_a)
        .def("rope", &Plan::rope, "x"_a, "inverse_frequencies"_a, "head_dim"_a, "is_neox"_a)
        .def("kv_write", &Plan::kv_write, "kv"_a, "k"_a, "v"_a)
        .def(
            "attention",
            [](Plan& self, int out, int q, int kv, int64_t n_head, float scale, int64_t window,
               bool is_block, int64_t block, int64_t n_sink, int64_t n_window, float alpha) {
                self.attention(out, q, kv, n_head, scale, {window, is_block},
                               {block, n_sink, n_window, alpha});
            },
            "out"_a, "q"_a, "kv"_a, "n_head"_a, "scale"_a, "window"_a, "is_block"_a,
            "sparse_block"_a = 0, "n_sink"_a = 0, "n_window"_a = 0, "alpha"_a = 0.0f)
        .def("silu_mul", &Plan::silu_mul, "out"_a, "gate"_a, "up"_a)
        .def("select_rows", &Plan::select_rows, "out"_a, "x"_a)
        .def("argmax", &Plan::argmax, "x"_a)
        .def("top_k", &Plan::top_k, "x"_a, "k"_a)
        .def("concat", &Plan::concat, "out"_a, "parts"_a)
        .def("step", &step, "kv"_a.none(), "tokens"_a, "positions"_a, "parents"_a, "blocks"_a,
             "n_past"_a, "out_rows"_a)
        .def("set_cancelled", &Plan::set_cancelled, "is_cancelled"_a)
        .def_prop_ro("argmax_result", &Plan::argmax_result)
        .def("top_k_result", &top_k_of, "n_rows"_a)
        .def("view", &view_of, "buffer"_a, "n_rows"_a);
}
