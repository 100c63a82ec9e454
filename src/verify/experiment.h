// SPDX-License-Identifier: Apache-2.0
// Tilewise against the reference on one case, through the public API.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "verify/case.h"
#include "verify/tolerance.h"

namespace tilewise::verify {

// One result tensor of one run.
struct Comparison {
  std::string name;  // "output", "logsumexp", "grad_query", ...
  Deviation error;
  Deviation naive;
  Bound allowed;
  double actual = 0;    // at the element of the largest error, or the misplaced one
  double expected = 0;  // there
  double ulps = 0;      // their distance in units of the dtype at `expected`
  int64_t index[4] = {0, 0, 0, 0};
  [[nodiscard]] bool passed() const;
  // "output[0,1,7,3] is 0.25, expected 0.2501 (...)"
  [[nodiscard]] std::string text() const;
};

struct Verdict {
  std::string failure;  // empty: passed
  std::vector<Comparison> comparisons;
};

// Makes data, reference and naive results once; run() may be called for many kernels.
class Experiment {
 public:
  explicit Experiment(const Case& c);
  ~Experiment();

  // Forward, then backward unless told not to. An exception of the library is a failure here.
  [[nodiscard]] Verdict run(const std::string& isa, int threads, bool with_backward = true);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tilewise::verify
