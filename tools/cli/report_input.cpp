// SPDX-License-Identifier: Apache-2.0
// Real input: how exact the results are, and how long they take.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <utility>

#include "base/dtype.h"
#include "base/message.h"
#include "cli/accuracy.h"
#include "cli/problem_options.h"
#include "cli/race.h"
#include "cli/report_sections.h"
#include "io/safetensors.h"
#include "kernels/reference/reference.h"
#include "problem/validate.h"
#include "tilewise/error.h"
#include "verify/case_memory.h"

namespace tilewise::cli {

struct ReportInput {
  std::shared_ptr<const io::SafetensorsFile> file;
  io::Array query, key, value;
  std::optional<io::Array> grad_output;
  DType dtype = DType::kFloat32;  // of the query in the file
  Mask mask;
  std::optional<double> scale;
};

namespace {

using Input = ReportInput;

io::Array load(const io::SafetensorsFile& file, const std::string& name) {
  const io::TensorInfo* info = file.find(name);
  if (info == nullptr) {
    throw InvalidArgument(
        message(file.path(), "tensor \"" + name + "\"", "missing", "q, k and v, optionally do"));
  }
  if (!io::float_dtype(info->type) || info->shape.size() != 4) {
    throw InvalidArgument(message(file.path(), "tensor \"" + name + "\"",
                                  info->type + " " + io::shape_text(info->shape),
                                  "a float type and [batch, heads, length, dim]"));
  }
  return file.load(*info);
}

std::string metadata(const io::SafetensorsFile& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  return found == file.metadata().end() ? "" : found->second;
}

Problem problem_of(const Input& input, DType dtype) {
  const auto& q = input.query.shape();
  Problem problem;
  problem.query_heads = q[1];
  problem.kv_heads = input.key.shape()[1];
  problem.max_batch = q[0];
  problem.max_query_length = q[2];
  problem.max_kv_length = input.key.shape()[2];
  problem.head_dim = q[3];
  problem.value_dim = input.value.shape()[3];
  problem.dtype = dtype;
  problem.mask = input.mask;
  problem.scale = input.scale;
  return normalized(problem, "report");
}

BenchData data_of(const Input& input, const Problem& problem, uint64_t seed) {
  const auto as = [&](const io::Array& array) { return io::convert(array, problem.dtype); };
  return {problem,
          as(input.query),
          as(input.key),
          as(input.value),
          input.grad_output ? std::optional(as(*input.grad_output)) : std::nullopt,
          seed};
}

// Results that the file holds, made by whoever made the file, against our float64 reference.
Json compare_with_file(const io::SafetensorsFile& file, const Problem& problem,
                       const BackwardTensors& tensors) {
  reference::Inputs in;
  in.query = tensors.query;
  in.key = tensors.key;
  in.value = tensors.value;
  in.grad_output = tensors.grad_output;
  in.mask = problem.mask;
  in.scale = *problem.scale;
  std::vector<std::pair<std::string, std::vector<double>>> results = {
      {"o", reference::forward(in).output}};
  if (file.find("do") != nullptr) {
    reference::Gradients grad = reference::backward(in);
    results.emplace_back("dq", std::move(grad.query));
    results.emplace_back("dk", std::move(grad.key));
    results.emplace_back("dv", std::move(grad.value));
  }
  Json comparison = Json::array();
  for (const auto& [name, ours] : results) {
    const io::TensorInfo* info = file.find(name);
    if (info == nullptr || !io::float_dtype(info->type) || info->shape.size() != 4) continue;
    const io::Array array = file.load(*info);
    const std::vector<double> theirs = verify::dense(array.tensor());
    if (theirs.size() != ours.size()) continue;
    double difference = 0, largest = 0;
    for (size_t i = 0; i < ours.size(); ++i) {
      difference = std::max(difference, std::abs(ours[i] - theirs[i]));
      largest = std::max(largest, std::abs(ours[i]));
    }
    comparison.push_back({{"tensor", name}, {"max_difference", difference}, {"largest", largest}});
  }
  return comparison;
}

Json speed(ReportContext& context, const Problem& problem, const BenchData& data) {
  Json result = Json::array();
  std::vector<std::unique_ptr<Contestant>> contestants;
  std::vector<Contestant*> pointers;
  std::vector<Implementation> names;
  for (const Implementation implementation : kRivals) {
    if (!is_feasible(context, "input", implementation, problem)) continue;
    names.push_back(implementation);
    contestants.push_back(make_contestant(implementation, problem, true, context.plan));
    pointers.push_back(contestants.back().get());
  }
  const auto times = race(pointers, data, Pass::kBoth, {.seconds = context.is_quick ? 0.3 : 1.5});
  for (size_t i = 0; i < times.size(); ++i) {
    const double forward = times[i].forward.median(), backward = times[i].backward.median();
    result.push_back(
        {{"implementation", implementation_name(names[i])},
         {"forward_ms", forward * 1e3},
         {"backward_ms", backward * 1e3},
         {"forward_gflops", forward_flops(problem) / forward * 1e-9},
         {"backward_gflops", backward_flops(problem) / backward * 1e-9},
         {"extra_bytes", contestants[i]->own_bytes() +
                             (contestants[i]->needs_logsumexp() ? data.logsumexp_bytes() : 0)}});
  }
  return result;
}

}  // namespace

Json errors_json(const std::string& dtype, const std::vector<Accuracy>& errors) {
  Json result = Json::array();
  for (const Accuracy& e : errors) {
    result.push_back({{"dtype", dtype},
                      {"tensor", e.tensor},
                      {"max_error", e.max_error},
                      {"naive_error", e.naive_error},
                      {"max_bound", e.max_bound},
                      {"rms_error", e.rms_error},
                      {"naive_rms_error", e.naive_rms_error},
                      {"rms_bound", e.rms_bound},
                      {"within_bound", e.within_bound()}});
  }
  return result;
}

std::shared_ptr<const ReportInput> load_report_input(const std::string& path,
                                                     const std::string& mask_text) {
  const auto file = std::make_shared<const io::SafetensorsFile>(path);
  auto input = std::make_shared<ReportInput>(
      ReportInput{file, load(*file, "q"), load(*file, "k"), load(*file, "v"), {}, {}, {}, {}});
  if (file->find("do") != nullptr) input->grad_output = load(*file, "do");
  input->dtype = *input->query.dtype();
  const std::string own_mask = metadata(*file, "mask");
  input->mask = !mask_text.empty()  ? mask_from_text(mask_text)
                : !own_mask.empty() ? mask_from_text(own_mask)
                                    : causal();
  if (const std::string scale = metadata(*file, "scale"); !scale.empty()) {
    char* end = nullptr;
    const double value = std::strtod(scale.c_str(), &end);
    if (*end == '\0') input->scale = value;
  }
  (void)problem_of(*input, input->dtype);
  return input;
}

Json report_input(ReportContext& context, const ReportInput& input) {
  const io::SafetensorsFile& file = *input.file;
  Json result;
  Json errors = Json::array();
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64}) {
    context.progress->stage(std::string("exactness, ") + dtype_name(dtype));
    const Problem problem = problem_of(input, dtype);
    const AccuracyCheck check(problem, step_of(problem), context.seed);
    if (dtype == DType::kFloat64 && !check.is_whole()) {
      context.not_run.push_back({{"section", "input"},
                                 {"dtype", "fp64"},
                                 {"reason", "the reference in long double would take too long"}});
      continue;
    }
    const BenchData data = data_of(input, problem, context.seed);
    const auto tilewise = make_contestant(Implementation::kTilewise, problem, true, context.plan);
    if (dtype == input.dtype) {                   // before rows of the gradient are set to zero
      tilewise->forward(data.forward_tensors());  // the first to look at the shapes
      result = {{"file", file.path()},
                {"source", metadata(file, "source")},
                {"batch", problem.max_batch},
                {"heads", problem.query_heads},
                {"kv_heads", problem.kv_heads},
                {"length", problem.max_query_length},
                {"kv_length", problem.max_kv_length},
                {"head_dim", problem.head_dim},
                {"value_dim", problem.value_dim},
                {"dtype", dtype_name(dtype)},
                {"mask", problem.mask.text()},
                {"scale", *problem.scale},
                {"grad_output", input.grad_output ? "from the file" : "N(0, 1)"},
                {"rows_compared", check.rows()},
                {"all_rows", check.is_whole()}};
      result["results_in_file"] = check.is_whole()
                                      ? compare_with_file(file, problem, data.backward_tensors())
                                      : Json::array();
      result["speed"] = speed(context, problem, data);
    }
    tilewise->forward(data.forward_tensors());
    for (const Json& error : errors_json(dtype_name(dtype), check.forward(data.forward_tensors())))
      errors.push_back(error);
    check.keep_sampled_rows(data.backward_tensors().grad_output);
    tilewise->backward(data.backward_tensors());
    for (const Json& error :
         errors_json(dtype_name(dtype), check.backward(data.backward_tensors())))
      errors.push_back(error);
  }
  result["errors"] = errors;
  return result;
}

}  // namespace tilewise::cli
