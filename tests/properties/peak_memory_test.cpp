// SPDX-License-Identifier: Apache-2.0
// [Dao22] Theorem 1: O(N) extra memory, as the operating system counts it.
#include <gtest/gtest.h>

#include <vector>

#include "measure/memory.h"
#include "support/sanitizers.h"
#include "tilewise/tilewise.h"

namespace tilewise {
namespace {

TEST(PeakMemory, OfSixtyFiveThousandTokensIsTheTensorsAndSixtyFourMebibytes) {
  if (test::kSanitizer) GTEST_SKIP() << "sanitizers keep memory of their own beside every byte";
  constexpr int64_t kLength = 65536, kDim = 64;  // S alone would be 16 GiB
  Problem problem;
  problem.max_query_length = problem.max_kv_length = kLength;
  problem.head_dim = kDim;
  problem.mask = window(512, 0);  // memory does not depend on the mask, time does
  std::vector<float> numbers[8], lse(kLength, 0.f);
  for (auto& x : numbers) x.assign(kLength * kDim, 0.25f);
  numbers[3].assign(kLength * kDim, 7.f);  // the output
  const auto view = [](std::vector<float>& x, int64_t dim) {
    return Tensor::bhsd(x.data(), DType::kFloat32, 1, 1, kLength, dim);
  };
  ASSERT_TRUE(measure::reset_peak_resident());
  const auto before = measure::resident_bytes();

  const Plan plan = make_plan(problem);
  const Schedule schedule =
      plan.schedule({.batch = 1, .query_length = kLength, .kv_length = kLength});
  Workspace workspace(plan);
  const auto tensor = [&](int i) { return view(numbers[i], kDim); };
  plan.forward(schedule, {tensor(0), tensor(1), tensor(2), {}, tensor(3), view(lse, 1)}, workspace);
  BackwardTensors t;
  t.query = tensor(0);
  t.key = tensor(1);
  t.value = tensor(2);
  t.output = tensor(3);
  t.logsumexp = view(lse, 1);
  t.grad_output = tensor(4);
  t.grad_query = tensor(5);
  t.grad_key = tensor(6);
  t.grad_value = tensor(7);
  plan.backward(schedule, t, workspace);

  EXPECT_LE(measure::peak_resident_bytes() - before, int64_t{64} << 20);
  EXPECT_EQ(numbers[3][12345], 0.25f);  // an average of equal values
}

}  // namespace
}  // namespace tilewise
