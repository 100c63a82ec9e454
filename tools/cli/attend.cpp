// SPDX-License-Identifier: Apache-2.0
#include "cli/attend.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/message.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/tables.h"
#include "io/safetensors.h"
#include "problem/ragged.h"
#include "tilewise/tilewise.h"

namespace tilewise::cli {
namespace {

constexpr const char* kHelp =
    R"(Input tensors (any of F32, BF16, F16, F64; others in the file are ignored):
  q     [batch, heads, length, dim]
  k     [batch, kv heads, kv length, dim]         kv heads divides heads
  v     [batch, kv heads, kv length, value dim]
  bias  [batch or 1, heads or 1, length or 1, kv length]   optional, added to the scores
  do    [batch, heads, length, value dim]         optional: gradient of o, asks for gradients
  dlse  [batch, heads, length]                    optional, with do: gradient of lse
  T     [heads]                                   with --sink T: one more score for each row
Output tensors:
  o     [batch, heads, length, value dim]         in the dtype
  lse   [batch, heads, length]                    fp32, natural logarithm, -inf: a row sees no key
  dq, dk, dv, dbias                               with do: shapes of q, k, v, bias; in the dtype,
                                                  but dbias in fp32 (fp64 when computing in fp64)
  dsink [heads]                                   with do and --sink, as dbias
  d_NAME                                          with do: of each real --table NAME, as dbias
A ragged batch: --cu-seqlens-q and --cu-seqlens-k name tensors (I32 or I64, [sequences + 1]) of the
file; batch is 1, and sequence i is rows [q[i], q[i + 1]) of length, [k[i], k[i + 1]) of kv length.
Then bias is [sequences or 1, heads or 1, length of the longest sequence or 1, kv length likewise].
The output appears complete or not at all; it may be the input file.

Example:
  tilewise attend --input layer.safetensors --output out.safetensors --mask causal --dtype bf16)";

struct Options {
  std::string input;
  std::string output;
  Mask mask;
  Score score;
  Tables tables;
  std::optional<double> scale;
  double dropout = 0;
  uint64_t seed = 0;
  std::string sink;  // its tensor; "": none
  std::optional<DType> dtype;
  std::string query_starts, key_starts;  // names of tensors; "": not ragged
  std::string isa;
  int threads = 0;
  bool json = false;
};

struct Inputs {
  DType dtype = DType::kFloat32;
  std::optional<io::Array> query_starts, key_starts;
  std::optional<io::Array> q, k, v, bias, sink, grad_output, grad_logsumexp;
};

struct Outputs {
  std::optional<io::Array> o, lse, dq, dk, dv, dbias, dsink;
  std::vector<std::pair<std::string, io::Array>> dtables;
};

struct Seconds {
  double read = 0, forward = 0, backward = 0, write = 0;
};

SequenceStarts starts_of(const std::optional<io::Array>& array) {
  if (!array) return {};
  const IntegerType type = array->type() == "I32" ? IntegerType::kInt32 : IntegerType::kInt64;
  return {array->data(), type, array->shape()[0]};
}

// Of a uniform batch the lengths of the tensors.
Step step_of(const Inputs& in) {
  Step step{.batch = in.q->shape()[0],
            .query_length = in.q->shape()[2],
            .kv_length = in.k->shape()[2],
            .query_starts = starts_of(in.query_starts),
            .key_starts = starts_of(in.key_starts)};
  if (is_ragged(step)) step.batch = step.query_starts.size - 1;
  return step;
}

Tensor view(const std::optional<io::Array>& array) { return array ? array->tensor() : Tensor{}; }

// [heads], as [1, heads, 1, 1].
Tensor sink_view(const std::optional<io::Array>& array) {
  if (!array) return {};
  return Tensor::bhsd(array->data(), *array->dtype(), 1, array->shape()[0], 1, 1);
}

// An axis of an expected shape: one extent, or any (then only its name is known), or also 1.
struct Axis {
  int64_t extent;
  const char* name = "";
  bool may_be_one = false;
  static constexpr int64_t kAny = -1;

  bool accepts(int64_t got) const {
    return extent == kAny || got == extent || (may_be_one && got == 1);
  }
  std::string text() const {
    if (extent == kAny) return name;
    return (may_be_one && extent != 1 ? "1 or " : "") + std::to_string(extent);
  }
};

// Finds a tensor, checks its type and shape; nullptr if it is absent and optional.
class TensorFinder {
 public:
  explicit TensorFinder(const io::SafetensorsFile& file) : file_(file) {}

  const io::TensorInfo* find(const std::string& name, const std::vector<Axis>& axes) const {
    const io::TensorInfo* info = file_.find(name);
    if (info == nullptr) return nullptr;
    if (!io::float_dtype(info->type)) {
      throw InvalidArgument(message(file_.path(), "dtype of tensor \"" + name + "\"", info->type,
                                    "F32, BF16, F16 or F64"));
    }
    bool fits = info->shape.size() == axes.size();
    for (size_t i = 0; fits && i < axes.size(); ++i) fits = axes[i].accepts(info->shape[i]);
    if (!fits) {
      std::string expected;
      for (const Axis& axis : axes) expected += (expected.empty() ? "[" : ", ") + axis.text();
      throw InvalidArgument(message(file_.path(), "shape of tensor \"" + name + "\"",
                                    io::shape_text(info->shape), expected + "]"));
    }
    return info;
  }

  const io::TensorInfo& require(const std::string& name, const std::vector<Axis>& axes,
                                const char* expected = "q, k and v") const {
    const io::TensorInfo* info = find(name, axes);
    if (info != nullptr) return *info;
    std::string names;
    for (const io::TensorInfo& tensor : file_.tensors()) {
      names += (names.empty() ? "" : ", ") + tensor.name;
    }
    if (names.size() > 100) names = names.substr(0, 100) + "...";
    throw InvalidArgument(message(file_.path(), "tensor \"" + name + "\"", "missing", expected,
                                  "the file has " + (names.empty() ? "none" : names)));
  }

 private:
  const io::SafetensorsFile& file_;
};

io::Array load_as(const io::SafetensorsFile& file, const io::TensorInfo& info, DType dtype) {
  io::Array array = file.load(info);
  return array.dtype() == dtype ? std::move(array) : io::convert(array, dtype);
}

DType real_dtype(DType dtype) {
  return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

// The starts of a ragged batch; nothing for no name.
std::optional<io::Array> load_starts(const io::SafetensorsFile& file, const std::string& name) {
  if (name.empty()) return {};
  const io::TensorInfo* info = file.find(name);
  const std::string what = "tensor \"" + name + "\"";
  if (info == nullptr)
    throw InvalidArgument(message(file.path(), what, "missing", "starts of sequences"));
  if (info->type != "I32" && info->type != "I64")
    throw InvalidArgument(message(file.path(), "dtype of " + what, info->type, "I32 or I64"));
  if (info->shape.size() != 1 || info->shape[0] < 1) {
    throw InvalidArgument(
        message(file.path(), "shape of " + what, io::shape_text(info->shape), "[sequences + 1]"));
  }
  return file.load(*info);
}

// Every shape is checked before the first tensor is read.
Inputs load_inputs(const io::SafetensorsFile& file, const Options& options) {
  const std::optional<DType> dtype = options.dtype;
  const TensorFinder finder(file);
  const bool ragged = !options.query_starts.empty();
  const Axis any_batch{ragged ? 1 : Axis::kAny, "batch"};
  const io::TensorInfo& q = finder.require(
      "q", {any_batch, {Axis::kAny, "heads"}, {Axis::kAny, "length"}, {Axis::kAny, "dim"}});
  const Axis batch{q.shape[0]}, heads{q.shape[1]}, length{q.shape[2]}, dim{q.shape[3]};
  const io::TensorInfo& k =
      finder.require("k", {batch, {Axis::kAny, "kv heads"}, {Axis::kAny, "kv length"}, dim});
  const Axis kv_heads{k.shape[1]}, kv_length{k.shape[2]};
  const io::TensorInfo& v =
      finder.require("v", {batch, kv_heads, kv_length, {Axis::kAny, "value dim"}});
  const Axis value_dim{v.shape[3]};
  const auto or_one = [](Axis axis) { return Axis{axis.extent, axis.name, true}; };
  const Axis sequences{Axis::kAny, "sequences or 1"}, any{Axis::kAny, "longest"};
  const io::TensorInfo* bias =
      ragged ? finder.find("bias", {sequences, or_one(heads), any, any})
             : finder.find("bias", {or_one(batch), or_one(heads), or_one(length), kv_length});
  const io::TensorInfo* sink =
      options.sink.empty() ? nullptr : &finder.require(options.sink, {heads}, "that of --sink");
  const io::TensorInfo* grad_output = finder.find("do", {batch, heads, length, value_dim});
  const io::TensorInfo* grad_logsumexp = finder.find("dlse", {batch, heads, length});
  if (grad_logsumexp != nullptr && grad_output == nullptr) {
    throw InvalidArgument(
        message(file.path(), "tensor \"do\"", "missing", "one, as there is \"dlse\""));
  }
  if (!dtype && (k.type != q.type || v.type != q.type ||
                 (grad_output != nullptr && grad_output->type != q.type))) {
    throw InvalidArgument(message(file.path(), "dtype of q, k, v and do", "not one type",
                                  q.type + ", as q", "choose one with --dtype"));
  }

  Inputs inputs;
  inputs.query_starts = load_starts(file, options.query_starts);
  inputs.key_starts = load_starts(file, options.key_starts);
  inputs.dtype = dtype ? *dtype : *io::float_dtype(q.type);
  const DType real = real_dtype(inputs.dtype);
  inputs.q = load_as(file, q, inputs.dtype);
  inputs.k = load_as(file, k, inputs.dtype);
  inputs.v = load_as(file, v, inputs.dtype);
  if (bias != nullptr) {
    const bool has_dtype = io::float_dtype(bias->type) == inputs.dtype;
    inputs.bias = load_as(file, *bias, has_dtype ? inputs.dtype : real);
  }
  if (sink != nullptr) inputs.sink = load_as(file, *sink, real);
  if (grad_output != nullptr) inputs.grad_output = load_as(file, *grad_output, inputs.dtype);
  if (grad_logsumexp != nullptr) inputs.grad_logsumexp = load_as(file, *grad_logsumexp, real);
  return inputs;
}

Problem problem_of(const Inputs& inputs, const Options& options) {
  Problem problem;
  problem.query_heads = inputs.q->shape()[1];
  problem.kv_heads = inputs.k->shape()[1];
  const Step step = step_of(inputs);
  problem.max_batch = step.batch;
  problem.max_query_length = step.query_length;
  problem.max_kv_length = step.kv_length;
  problem.head_dim = inputs.q->shape()[3];
  problem.value_dim = inputs.v->shape()[3];
  problem.dtype = inputs.dtype;
  if (is_ragged(step)) {
    validate_starts(step, "attend");
    problem.max_query_length = longest_sequence(step.query_starts);
    problem.max_kv_length = longest_sequence(step.key_starts);
    problem.max_total_queries = total_length(step.query_starts);
  }
  problem.mask = options.mask;
  problem.score = options.score;
  problem.scale = options.scale;
  problem.has_bias = inputs.bias.has_value();
  problem.has_sink = inputs.sink.has_value();
  problem.dropout = options.dropout;
  int64_t elements = 0;
  for (const auto& [name, table] : options.tables.real_tables())
    elements += table.shape[0] * table.shape[1] * table.shape[2] * table.shape[3];
  problem.max_table_elements = std::max(problem.max_table_elements, elements);
  // 0 in a file is 0; in a Problem it would ask for a default.
  for (const auto& [name, extent] :
       {std::pair{"k: kv heads", problem.kv_heads}, std::pair{"v: value dim", problem.value_dim}}) {
    if (extent == 0) throw InvalidArgument(message(options.input, name, "0", "at least 1"));
  }
  return problem;
}

double since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Outputs compute(const Plan& plan, const Inputs& in, const Options& options, Progress& progress,
                Seconds& seconds) {
  const Tables& tables = options.tables;
  std::optional<uint64_t> dropout_seed;
  if (plan.problem().dropout > 0) dropout_seed = options.seed;
  const std::vector<int64_t> rows = {in.q->shape()[0], in.q->shape()[1], in.q->shape()[2]};
  const DType real = real_dtype(in.dtype);
  Outputs out;
  out.o.emplace(in.dtype, std::vector<int64_t>{rows[0], rows[1], rows[2], in.v->shape()[3]});
  out.lse.emplace(real, rows);
  Step step = step_of(in);
  tables.give(step);
  const Schedule schedule = plan.schedule(step);
  const std::vector<NamedTensor> real_tables = tables.real_tables();
  Workspace workspace(plan);

  progress.stage("forward");
  auto start = std::chrono::steady_clock::now();
  plan.forward(schedule,
               {.query = view(in.q),
                .key = view(in.k),
                .value = view(in.v),
                .bias = view(in.bias),
                .output = view(out.o),
                .logsumexp = view(out.lse),
                .tables = real_tables,
                .sink = sink_view(in.sink),
                .dropout_seed = dropout_seed},
               workspace);
  seconds.forward = since(start);
  if (!in.grad_output) return out;

  progress.stage("backward");
  out.dq.emplace(in.dtype, in.q->shape());
  out.dk.emplace(in.dtype, in.k->shape());
  out.dv.emplace(in.dtype, in.v->shape());
  if (in.bias) out.dbias.emplace(real, in.bias->shape());
  if (in.sink) out.dsink.emplace(real, in.sink->shape());
  std::vector<NamedTensor> grad_tables;
  for (const Tables::Entry& entry : tables.entries()) {
    if (!entry.is_real()) continue;
    out.dtables.push_back({"d_" + entry.name, io::Array(real, entry.array->shape())});
    grad_tables.push_back({entry.name, table_tensor(out.dtables.back().second)});
  }
  start = std::chrono::steady_clock::now();
  plan.backward(schedule,
                {.query = view(in.q),
                 .key = view(in.k),
                 .value = view(in.v),
                 .bias = view(in.bias),
                 .output = view(out.o),
                 .logsumexp = view(out.lse),
                 .grad_output = view(in.grad_output),
                 .grad_logsumexp = view(in.grad_logsumexp),
                 .grad_query = view(out.dq),
                 .grad_key = view(out.dk),
                 .grad_value = view(out.dv),
                 .grad_bias = view(out.dbias),
                 .tables = real_tables,
                 .grad_tables = grad_tables,
                 .sink = sink_view(in.sink),
                 .grad_sink = sink_view(out.dsink),
                 .dropout_seed = dropout_seed},
                workspace);
  seconds.backward = since(start);
  return out;
}

std::vector<io::NamedArray> named(const Outputs& out) {
  std::vector<io::NamedArray> result;
  const auto add = [&result](const char* name, const std::optional<io::Array>& array) {
    if (array) result.push_back({name, &*array});
  };
  add("o", out.o);
  add("lse", out.lse);
  add("dq", out.dq);
  add("dk", out.dk);
  add("dv", out.dv);
  add("dbias", out.dbias);
  add("dsink", out.dsink);
  for (const auto& [name, array] : out.dtables) result.push_back({name, &array});
  return result;
}

void print_summary(const Options& options, const Plan& plan,
                   const std::vector<io::NamedArray>& arrays, const Inputs& in,
                   const Seconds& seconds) {
  const Problem& problem = plan.problem();
  if (!options.json) {
    std::string names;
    for (const io::NamedArray& array : arrays) names += (names.empty() ? "" : " ") + array.name;
    fmt::print("{}: {} ({}, {}, {} threads; forward {}", one_line(options.output), names,
               dtype_name(problem.dtype), plan.isa(), plan.threads(),
               duration_text(seconds.forward));
    fmt::print("{})\n", in.grad_output ? ", backward " + duration_text(seconds.backward) : "");
    return;
  }
  Json tensors = Json::array();
  for (const io::NamedArray& array : arrays) {
    tensors.push_back(
        {{"name", array.name}, {"dtype", array.array->type()}, {"shape", array.array->shape()}});
  }
  Json times = {{"read", seconds.read}, {"forward", seconds.forward}};
  if (in.grad_output) times["backward"] = seconds.backward;
  times["write"] = seconds.write;
  print_json("attend", {{"input", options.input},
                        {"output", options.output},
                        {"batch", problem.max_batch},
                        {"heads", problem.query_heads},
                        {"kv_heads", problem.kv_heads},
                        {"length", problem.max_query_length},
                        {"kv_length", problem.max_kv_length},
                        {"head_dim", problem.head_dim},
                        {"value_dim", problem.value_dim},
                        {"dtype", dtype_name(problem.dtype)},
                        {"mask", problem.mask.text()},
                        {"score", problem.score.text()},
                        {"scale", *problem.scale},
                        {"bias", problem.has_bias},
                        {"sink", problem.has_sink},
                        {"dropout", problem.dropout},
                        {"isa", plan.isa()},
                        {"threads", plan.threads()},
                        {"workspace_bytes", plan.workspace_bytes()},
                        {"seconds", times},
                        {"tensors", tensors}});
}

void attend(const Options& options) {
  Progress progress("attend");
  Seconds seconds;
  progress.stage("reading " + one_line(options.input));
  auto start = std::chrono::steady_clock::now();
  const io::SafetensorsFile file(options.input);
  io::AtomicFile output(options.output);  // a bad path is known before anything is computed
  const Inputs inputs = load_inputs(file, options);
  seconds.read = since(start);

  const Plan plan =
      make_plan(problem_of(inputs, options),
                {.isa = options.isa, .threads = options.threads, .executor = nullptr});
  Outputs outputs = compute(plan, inputs, options, progress, seconds);
  if (outputs.lse->dtype() != DType::kFloat32)
    outputs.lse = io::convert(*outputs.lse, DType::kFloat32);

  progress.stage("writing " + one_line(options.output));
  start = std::chrono::steady_clock::now();
  const std::vector<io::NamedArray> arrays = named(outputs);
  io::write_safetensors(output, arrays,
                        {{"made_by", "tilewise attend " TILEWISE_VERSION},
                         {"mask", plan.problem().mask.text()},
                         {"score", plan.problem().score.text()},
                         {"scale", fmt::format("{}", *plan.problem().scale)}});
  seconds.write = since(start);
  print_summary(options, plan, arrays, inputs, seconds);
}

}  // namespace

void register_attend(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("attend", "attention on the tensors q, k, v of a file");
  const auto options = std::make_shared<Options>();
  command->add_option("--input", options->input, "safetensors file with q, k, v")
      ->type_name("FILE")
      ->required();
  command->add_option("--output", options->output, "safetensors file to write")
      ->type_name("FILE")
      ->required();
  add_rules(*command, options->mask, options->score, options->tables);
  const auto starts = [&](const char* name, std::string& tensor, const char* text) {
    return command->add_option(name, tensor, text)->type_name("TENSOR");
  };
  CLI::Option* const queries = starts("--cu-seqlens-q", options->query_starts,
                                      "of the input: where the queries of each sequence start");
  CLI::Option* const keys = starts("--cu-seqlens-k", options->key_starts, "the same of the keys");
  queries->needs(keys);
  keys->needs(queries);
  add_scale(*command, options->scale);
  CLI::Option* dropout = add_dropout(*command, options->dropout);
  command->add_option("--seed", options->seed, "of --dropout (default: 0)")
      ->type_name("S")
      ->needs(dropout);
  command->add_option("--sink", options->sink, "tensor of the input file with a sink for each head")
      ->type_name("TENSOR");
  add_dtype(*command, options->dtype, "the file's");
  add_isa(*command, options->isa);
  add_threads(*command, options->threads);
  add_json(*command, options->json);
  command->footer(kHelp);
  command->callback([options] { attend(*options); });
}

}  // namespace tilewise::cli
