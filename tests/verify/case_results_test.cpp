// SPDX-License-Identifier: Apache-2.0
#include "verify/case_results.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace tilewise::verify {
namespace {

// Two sequences of a ragged batch against the same two as cases of their own would be: every pair
// inside of a sequence counts, none between two, and tails are empty rows.
TEST(CaseResults, SequencesAreSeparateAndTailsAreEmpty) {
  const CaseMemory memory(case_from_text(
      "hq=2 hkv=1 n=9 m=8 lengths=3:4,0:1,5:2 d=4 e=3 bias=k sink=normal dlse=1 seed=3"));
  const CaseResults results = exact_results(memory);
  const auto parts = memory.parts();
  ASSERT_EQ(parts.size(), 3u);
  std::vector<double> bias(4), sink(2);
  for (const CaseMemory::Part& part : parts) {
    const reference::Outputs own = reference::forward(part.inputs);
    const reference::Gradients grad = reference::backward(part.inputs);
    const int64_t n = part.inputs.query.shape[2], m = part.inputs.key.shape[2];
    for (int64_t h = 0; h < 2; ++h)
      for (int64_t i = 0; i < n; ++i) {
        EXPECT_EQ(results.outputs.logsumexp[h * 9 + part.first_query + i],
                  own.logsumexp[h * n + i]);
        EXPECT_EQ(results.outputs.output[(h * 9 + part.first_query + i) * 3],
                  own.output[(h * n + i) * 3]);
        EXPECT_EQ(results.gradients.query[(h * 9 + part.first_query + i) * 4 + 1],
                  grad.query[(h * n + i) * 4 + 1]);
      }
    for (int64_t h = 0; h < 2; ++h) sink[h] += grad.sink[h];
    for (int64_t j = 0; j < m; ++j) {
      EXPECT_EQ(results.gradients.key[(part.first_key + j) * 4], grad.key[j * 4]);
      EXPECT_EQ(results.gradients.value[(part.first_key + j) * 3], grad.value[j * 3]);
      bias[j] += grad.bias[j];
    }
  }
  EXPECT_EQ(results.gradients.bias, bias);
  EXPECT_EQ(results.gradients.sink, sink);
  EXPECT_EQ(results.outputs.logsumexp[8], -INFINITY);
  EXPECT_EQ(results.outputs.output[8 * 3], 0);
  EXPECT_EQ(results.gradients.query[8 * 4], 0);
  EXPECT_EQ(results.gradients.key[7 * 4], 0);
}

// Gradients that are sums over rows, and the terms of the sums, of all sequences.
TEST(CaseResults, TermsAddUpToTheirSums) {
  const CaseMemory memory(case_from_text(
      "hq=2 hkv=2 n=90 m=70 lengths=70:60,15:9 d=4 e=3 sink=normal score=\"s + slope[h % 4] * "
      "float(q - k) / 64\" seed=5"));
  for (const CaseResults& results : {exact_results(memory), naive_results(memory, 0)}) {
    const reference::Gradients& grad = results.gradients;
    const auto expect_sums = [](const std::vector<double>& sums, const std::vector<double>& terms) {
      ASSERT_EQ(terms.size(), sums.size() * reference::kTerms);
      for (size_t n = 0; n < sums.size(); ++n) {
        double sum = 0, largest = 0;
        for (size_t i = n * reference::kTerms; i < (n + 1) * reference::kTerms; ++i)
          sum += terms[i], largest = std::max(largest, std::abs(terms[i]));
        EXPECT_NEAR(sum, sums[n], 1e-4 * largest);
      }
    };
    expect_sums(grad.sink, grad.sink_terms);
    ASSERT_EQ(grad.tables.size(), 1u);
    expect_sums(grad.tables[0], grad.table_terms[0]);
    EXPECT_NE(grad.sink[0], 0);
    EXPECT_NE(grad.tables[0][1], 0);
  }
}

TEST(CaseResults, NaiveIsNear) {
  const CaseMemory memory(case_from_text("n=9 m=8 lengths=3:4,5:2 d=4 e=3 bias=k seed=4"));
  const CaseResults exact = exact_results(memory), naive = naive_results(memory, 0);
  for (size_t i = 0; i < exact.gradients.bias.size(); ++i) {
    EXPECT_NE(exact.gradients.bias[i], naive.gradients.bias[i]);
    EXPECT_NEAR(exact.gradients.bias[i], naive.gradients.bias[i], 1e-5);
    EXPECT_EQ(naive.gradients.bias[i], static_cast<float>(naive.gradients.bias[i]));
  }
}

// The tensors of a ragged case: NaN in the tails of inputs, a bias as long as the longest.
TEST(CaseResults, TailsOfInputsAreNaN) {
  const CaseMemory memory(case_from_text("n=9 m=8 lengths=3:4,5:2 d=4 e=3 bias=bnk seed=4"));
  const BackwardTensors& t = memory.tensors();
  EXPECT_EQ(t.bias.shape[0], 2);
  EXPECT_EQ(t.bias.shape[2], 5);
  EXPECT_EQ(t.bias.shape[3], 4);
  const std::vector<double> q = dense(t.query), k = dense(t.key);
  for (int64_t i = 0; i < 9; ++i) EXPECT_EQ(std::isnan(q[i * 4]), i >= 8) << i;
  for (int64_t j = 0; j < 8; ++j) EXPECT_EQ(std::isnan(k[j * 4]), j >= 6) << j;
}

}  // namespace
}  // namespace tilewise::verify
