// SPDX-License-Identifier: Apache-2.0
// Plans and schedules as text for people.
#pragma once

#include <string>

#include "engine/plan_data.h"

namespace tilewise {

// One line, without lengths of a step: "fp32, 12 query heads over 4 kv heads, ...".
[[nodiscard]] std::string describe(const Problem& problem);
[[nodiscard]] std::string explain_schedule(const Plan::Data& plan, const Schedule::Data& schedule);
// At most 32 x 32 characters, queries downwards, keys to the right: '#' every pair of the cell is
// visible, '/' some, '.' none.
[[nodiscard]] std::string picture(const Band& band, int64_t query_length, int64_t kv_length);

}  // namespace tilewise
