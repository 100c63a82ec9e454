// SPDX-License-Identifier: Apache-2.0
#include "verify/case_results.h"

#include <algorithm>
#include <limits>

#include "kernels/reference/naive.h"

namespace tilewise::verify {
namespace {

int64_t count_of(const Tensor& t) {
  return t.data == nullptr ? 0 : t.shape[0] * t.shape[1] * t.shape[2] * t.shape[3];
}

// Rows of one part into their places.
void place_rows(std::vector<double>& whole, const Tensor& shape, const std::vector<double>& part,
                int64_t length, int64_t first) {
  const int64_t dim = shape.shape[3], heads = shape.shape[0] * shape.shape[1];
  for (int64_t h = 0; h < heads; ++h)
    std::copy_n(part.begin() + h * length * dim, length * dim,
                whole.begin() + (h * shape.shape[2] + first) * dim);
}

class Assembly {
 public:
  explicit Assembly(const CaseMemory& memory, bool is_rounded)
      : t_(memory.tensors()), is_rounded_(is_rounded && t_.query.dtype != DType::kFloat64) {
    results.outputs.output.resize(count_of(t_.output));
    results.outputs.logsumexp.assign(count_of(t_.logsumexp),
                                     -std::numeric_limits<double>::infinity());
    results.gradients.query.resize(count_of(t_.grad_query));
    results.gradients.key.resize(count_of(t_.grad_key));
    results.gradients.value.resize(count_of(t_.grad_value));
    results.gradients.bias.resize(count_of(t_.grad_bias));
    results.gradients.sink.resize(count_of(t_.grad_sink));
    results.gradients.sink_terms.resize(results.gradients.sink.size() * reference::kTerms);
    for (const NamedTensor& table : t_.grad_tables) {
      results.gradients.tables.emplace_back(count_of(table.tensor));
      results.gradients.table_terms.emplace_back(count_of(table.tensor) * reference::kTerms);
    }
  }

  void add(const CaseMemory::Part& part, const reference::Outputs& outputs,
           const reference::Gradients& gradients) {
    const int64_t n = part.inputs.query.shape[2], m = part.inputs.key.shape[2];
    place_rows(results.outputs.output, t_.output, outputs.output, n, part.first_query);
    place_rows(results.outputs.logsumexp, t_.logsumexp, outputs.logsumexp, n, part.first_query);
    place_rows(results.gradients.query, t_.grad_query, gradients.query, n, part.first_query);
    place_rows(results.gradients.key, t_.grad_key, gradients.key, m, part.first_key);
    place_rows(results.gradients.value, t_.grad_value, gradients.value, m, part.first_key);
    if (t_.bias.data != nullptr) add_bias(part, gradients.bias);
    add_all(results.gradients.sink, gradients.sink);
    add_all(results.gradients.sink_terms, gradients.sink_terms);
    for (size_t i = 0; i < gradients.tables.size(); ++i) {
      add_all(results.gradients.tables[i], gradients.tables[i]);
      add_all(results.gradients.table_terms[i], gradients.table_terms[i]);
    }
  }

  CaseResults results;

 private:
  void add_to(double& sum, double value) const {
    sum += value;
    if (is_rounded_) sum = static_cast<float>(sum);
  }
  void add_all(std::vector<double>& sums, const std::vector<double>& values) const {
    for (size_t at = 0; at < values.size(); ++at) add_to(sums[at], values[at]);
  }
  void add_bias(const CaseMemory::Part& part, const std::vector<double>& gradient) {
    const int64_t* to = t_.grad_bias.shape;
    const int64_t* from = part.inputs.bias.shape;
    const int64_t entry = to[0] > from[0] ? part.entry : 0;
    size_t at = 0;
    for (int64_t b = entry; b < entry + from[0]; ++b)
      for (int64_t h = 0; h < from[1]; ++h)
        for (int64_t q = 0; q < from[2]; ++q)
          for (int64_t k = 0; k < from[3]; ++k, ++at)
            add_to(results.gradients.bias[((b * to[1] + h) * to[2] + q) * to[3] + k], gradient[at]);
  }

  const BackwardTensors& t_;
  bool is_rounded_;
};

}  // namespace

CaseResults exact_results(const CaseMemory& memory) {
  Assembly all(memory, false);
  for (const CaseMemory::Part& part : memory.parts())
    all.add(part, reference::forward(part.inputs), reference::backward(part.inputs));
  return std::move(all.results);
}

CaseResults naive_results(const CaseMemory& memory, double start) {
  Assembly all(memory, true);
  for (const CaseMemory::Part& part : memory.parts()) {
    const auto rows = reference::all_rows(part.inputs.query);
    all.add(part, reference::naive_forward_rows(part.inputs, rows, start),
            reference::naive_backward_rows(part.inputs, rows, start));
  }
  return std::move(all.results);
}

}  // namespace tilewise::verify
