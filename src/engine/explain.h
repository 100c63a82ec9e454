// SPDX-License-Identifier: Apache-2.0
// Plans and schedules as text for people.
#pragma once

#include <string>

#include "engine/parts.h"
#include "engine/plan_data.h"
#include "schedule/tile_counts.h"

namespace tilewise {

// One line, without lengths of a step: "fp32, 12 query heads over 4 kv heads, ...".
[[nodiscard]] std::string describe(const Problem& problem);
[[nodiscard]] std::string explain_schedule(const Plan::Data& plan, const Schedule::Data& schedule);
// At most 32 x 32 characters, queries downwards, keys to the right: '#' every pair of the cell is
// visible, '/' some, '.' none.
[[nodiscard]] std::string picture(const HeadClass& heads, const expr::Values& values,
                                  const Step& step);

// Tiles of one class of heads; words that all heads move.
[[nodiscard]] TileCounts forward_counts(const Schedule::Data& schedule, const HeadTiles& tiles);
[[nodiscard]] TileCounts backward_counts(const Schedule::Data& schedule, const HeadTiles& tiles);
// Something that all heads add up to: value_of(i) as if all heads were of class i, weighted by the
// heads of each.
template <class ValueOf>
[[nodiscard]] int64_t sum_of_classes(const Schedule::Data& schedule, const ValueOf& value_of) {
  const int64_t heads = schedule.shape.batch * schedule.shape.query_heads;
  int64_t sum = 0;
  for (size_t i = 0; i < schedule.heads.classes.size(); ++i)
    sum += value_of(i) * schedule.heads.classes[i].heads;
  return heads == 0 ? 0 : sum / heads;
}
// Something that the uniform steps of a schedule add up to.
template <class ValueOf>
[[nodiscard]] auto sum_of_parts(const Schedule::Data& schedule, const ValueOf& value_of) {
  decltype(value_of(schedule)) sum{};
  for (const SchedulePart& part : schedule.parts)
    sum = sum + value_of(PartView(schedule, part).uniform());
  return sum;
}
[[nodiscard]] io_model::Words forward_words(const Schedule::Data& schedule);
[[nodiscard]] io_model::Words backward_words(const Schedule::Data& schedule);

}  // namespace tilewise
