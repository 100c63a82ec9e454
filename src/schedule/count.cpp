// SPDX-License-Identifier: Apache-2.0
#include "schedule/count.h"

namespace tilewise::io_model {

Words Counter::total() const noexcept {
  Words sum;
  for (const Words& words : words_) sum = sum + words;
  return sum;
}

}  // namespace tilewise::io_model
