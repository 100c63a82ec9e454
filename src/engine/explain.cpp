// SPDX-License-Identifier: Apache-2.0
#include "engine/explain.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "base/dtype.h"
#include "expr/print.h"
#include "problem/ragged.h"

namespace tilewise {
namespace {

constexpr int64_t kPictureCells = 32;
constexpr size_t kShownClasses = 4;
constexpr size_t kShownParts = 3;

__attribute__((format(printf, 1, 2))) std::string format(const char* pattern, ...) {
  char buffer[512];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(buffer, sizeof buffer, pattern, arguments);
  va_end(arguments);
  return buffer;
}

long long number(int64_t value) { return static_cast<long long>(value); }

std::string bytes_text(int64_t bytes) {
  if (bytes < 1024) return format("%lld B", number(bytes));
  const double kib = static_cast<double>(bytes) / 1024;
  return kib < 1024 ? format("%.1f KiB", kib) : format("%.1f MiB", kib / 1024);
}

std::string tiles_line(const char* direction, const TileCounts& counts, int64_t query_tile,
                       int64_t key_tile) {
  return format(
      "%-10s%lld queries x %lld keys; per head %lld full, %lld partial, %lld empty "
      "(never visited)\n",
      direction, number(query_tile), number(key_tile), number(counts.full), number(counts.partial),
      number(counts.empty()));
}

std::string words_line(const char* direction, const io_model::Words& tiled,
                       const io_model::Words& standard) {
  return format("  %-9s%lld words read, %lld written; standard attention %lld read, %lld written\n",
                direction, number(tiled.read), number(tiled.written), number(standard.read),
                number(standard.written));
}

template <class WordsOf>
io_model::Words words_of_classes(const Schedule::Data& schedule, const WordsOf& words_of) {
  return {sum_of_classes(schedule, [&](size_t i) { return words_of(i).read; }),
          sum_of_classes(schedule, [&](size_t i) { return words_of(i).written; })};
}

// Between the private caches of a core and everything behind them (docs/io_model.md).
std::string words_text(const Schedule::Data& schedule) {
  const auto standard = [&](io_model::Words (*words)(const io_model::Sizes&, int64_t)) {
    return sum_of_parts(schedule,
                        [&](const Schedule::Data& one) { return words(sizes_of(one.shape), 0); });
  };
  return "words     moved between the caches of a core and memory, predicted\n" +
         words_line("forward", forward_words(schedule), standard(io_model::standard_forward)) +
         words_line("backward", backward_words(schedule), standard(io_model::standard_backward));
}

constexpr const char* kFollowsBlocks =
    "          shortened, to follow the blocks of the mask: whole tiles are visible or not\n";

const char* chosen_by(bool is_tuned) {
  return is_tuned ? "measured by tilewise tune" : "from the sizes of the caches";
}

// What of a tile is to stay in which cache: the reasons of model_geometry().
std::string why_forward(const Plan::Data& plan, const Schedule::Data& schedule) {
  const TileBytes bytes = plan.kernel->tile_bytes(plan.problem.head_dim, plan.problem.value_dim);
  const Geometry& tiles = plan.tiles.geometry;
  std::string text = format("          %s: Q^T and O^T of a tile take %s, K and V %s, of L2 %s\n",
                            chosen_by(plan.tiles.is_forward_tuned),
                            bytes_text(tiles.query_tile * bytes.query).c_str(),
                            bytes_text(tiles.key_tile * bytes.key).c_str(),
                            bytes_text(this_machine().l2_bytes()).c_str());
  if (schedule.forward_follows_blocks) {
    text += kFollowsBlocks;
  } else if (schedule.geometry.query_tile < tiles.query_tile) {
    text += format(
        "          %lld queries shortened in steps of %lld, to even out the items of %d threads\n",
        number(tiles.query_tile), number(plan.kernel->limits.unit.query_tile), plan.threads);
  }
  return text;
}

std::string why_backward(const Plan::Data& plan, const Schedule::Data& schedule) {
  const TileBytes bytes = plan.kernel->tile_bytes(plan.problem.head_dim, plan.problem.value_dim);
  const Geometry& tiles = plan.tiles.geometry;
  std::string text = format(
      "          %s: P takes %s of L1 %s; Q and dO %s, keys and their gradients %s, of L2 %s\n",
      chosen_by(plan.tiles.is_backward_tuned),
      bytes_text(tiles.backward_query_tile * bytes.backward_scores).c_str(),
      bytes_text(this_machine().l1_bytes()).c_str(),
      bytes_text(tiles.backward_query_tile * bytes.backward_query).c_str(),
      bytes_text(tiles.backward_key_tile * bytes.backward_key).c_str(),
      bytes_text(this_machine().l2_bytes()).c_str());
  if (schedule.backward_follows_blocks) text += kFollowsBlocks;
  return text;
}

// What made tiles partial, most tiles first.
std::string open_parts_text(const HeadTiles& tiles) {
  std::string text;
  for (size_t i = 0; i < tiles.open_parts.size() && i < kShownParts; ++i) {
    text += format("          partial because of %s: %lld tiles\n",
                   expr::print(tiles.open_parts[i].part).substr(0, 200).c_str(),
                   number(tiles.open_parts[i].tiles));
  }
  if (!tiles.within_budget)
    text += "          the mask is costly to analyse: some tiles are taken for partial\n";
  return text;
}

// Heads that see the same: tiles, why, picture.
std::string class_text(const Schedule::Data& schedule, size_t index) {
  const HeadClass& one = schedule.heads.classes[index];
  const HeadTiles &forward = schedule.forward_tiles[index],
                  &backward = schedule.backward_tiles[index];
  const Geometry& geometry = schedule.geometry;
  std::string text;
  if (schedule.heads.classes.size() > 1) {
    text += format("heads     %lld of %lld see what batch %lld, head %lld sees\n",
                   number(one.heads), number(schedule.shape.batch * schedule.shape.query_heads),
                   number(one.batch), number(one.head));
  }
  if (!schedule.decodes) {
    text += tiles_line("forward", forward_counts(schedule, forward), geometry.query_tile,
                       geometry.key_tile) +
            open_parts_text(forward);
  }
  text += tiles_line("backward", backward_counts(schedule, backward), geometry.backward_query_tile,
                     geometry.backward_key_tile);
  return text + "picture   queries down, keys right; # full, / partial, . empty\n" +
         picture(one, schedule.mask_values, schedule.step);
}

std::string decode_lines(const Plan::Data& plan, const Schedule::Data& schedule) {
  const DecodeLaunch& decode = schedule.decode;
  const AttentionShape& shape = schedule.shape;
  return format(
             "forward   few queries: %lld rows (heads that share keys x queries) in %lld tiles; "
             "keys %lld to %lld in %lld chunks\n",
             number(shape.query_heads / shape.kv_heads * shape.query_length),
             number(decode.row_tiles), number(decode.first_key), number(decode.last_key),
             number(decode.last_chunk - decode.first_chunk)) +
         (plan.problem.same_bits_as_prefill
              ? "          one chunk, because the problem asks for the bits of a prefill\n"
              : format("          chunks of %lld keys, merged in order, on every machine\n",
                       number(decode.chunk_keys)));
}

// Tiles of all heads and sequences.
struct TileSums {
  int64_t full = 0, partial = 0, empty = 0;
  void add(const TileCounts& counts, int64_t heads) {
    full += counts.full * heads;
    partial += counts.partial * heads;
    empty += counts.empty() * heads;
  }
  [[nodiscard]] std::string line(const char* direction, const char* more) const {
    return format("%-10s%lld full, %lld partial, %lld empty tiles (never visited) in all heads%s\n",
                  direction, number(full), number(partial), number(empty), more);
  }
};

std::string ragged_text(const Plan::Data& plan, const Schedule::Data& schedule) {
  const Step& step = schedule.step;
  TileSums forward, backward;
  int64_t shortest[2] = {}, longest[2] = {}, decoding = 0;
  bool is_exact = true;
  for (const SchedulePart& part : schedule.parts) {
    const Schedule::Data& one = *part.sequence;
    const int64_t lengths[2] = {one.shape.query_length, one.shape.kv_length};
    for (int i = 0; i < 2; ++i) {
      shortest[i] = &part == &schedule.parts[0] ? lengths[i] : std::min(shortest[i], lengths[i]);
      longest[i] = std::max(longest[i], lengths[i]);
    }
    decoding += one.decodes;
    is_exact = is_exact && one.heads.pairs_are_exact();
    for (size_t i = 0; i < one.heads.classes.size(); ++i) {
      const int64_t heads = one.heads.classes[i].heads;
      if (!one.decodes) forward.add(forward_counts(one, one.forward_tiles[i]), heads);
      backward.add(backward_counts(one, one.backward_tiles[i]), heads);
    }
  }
  return format("step      %lld sequences in %lld queries and %lld keys\n", number(step.batch),
                number(step.query_length), number(step.kv_length)) +
         format(
             "          %lld to %lld queries, %lld to %lld keys each; %s%lld visible pairs in "
             "%lld heads\n",
             number(shortest[0]), number(longest[0]), number(shortest[1]), number(longest[1]),
             is_exact ? "" : "about ", number(schedule.pairs),
             number(step.batch * schedule.shape.query_heads)) +
         format("kernel    %s, %s arithmetic\n", plan.isa.c_str(), plan.kernel->arithmetic) +
         forward.line("forward", decoding == 0 ? "" : "; few queries:") +
         (decoding == 0 ? ""
                        : format("          %lld sequences take keys in chunks, merged in order\n",
                                 number(decoding))) +
         backward.line("backward", "");
}

std::string uniform_text(const Plan::Data& plan, const Schedule::Data& schedule) {
  const Step& step = schedule.step;
  std::string text = format(
      "step      batch %lld, %lld queries x %lld keys; %s%lld visible pairs in %lld "
      "heads\n",
      number(step.batch), number(step.query_length), number(step.kv_length),
      schedule.heads.pairs_are_exact() ? "" : "about ", number(schedule.pairs),
      number(step.batch * schedule.shape.query_heads));
  text += format("kernel    %s, %s arithmetic\n", plan.isa.c_str(), plan.kernel->arithmetic);
  if (plan.problem.has_sink)
    text +=
        "sink      one more score for each row, whose value is 0; added when its keys are summed\n";
  if (schedule.decodes) text += decode_lines(plan, schedule);
  for (size_t i = 0; i < schedule.heads.classes.size() && i < kShownClasses; ++i)
    text += class_text(schedule, i);
  if (schedule.heads.classes.size() > kShownClasses)
    text += format("heads     ... and %lld more masks\n",
                   number(static_cast<int64_t>(schedule.heads.classes.size() - kShownClasses)));
  if (!schedule.decodes) text += why_forward(plan, schedule);
  return text;
}

std::string part_line(const char* name, const WorkspacePart& part) {
  return format("          %-12s%s\n", name, bytes_text(part.bytes).c_str());
}

std::string workspace_text(const Plan::Data& plan, const Schedule::Data& schedule) {
  const BackwardLayout& backward = schedule.backward;
  return format("workspace %s for the plan, any step, forward and backward\n",
                bytes_text(static_cast<int64_t>(plan.workspace_bytes)).c_str()) +
         format("  forward %s for this step: scratch of %d workers\n",
                bytes_text(schedule.forward.bytes).c_str(), schedule.forward_workers) +
         format("  backward %s for this step:\n", bytes_text(backward.bytes).c_str()) +
         part_line("lse, delta", {0, backward.lse.bytes + backward.delta.bytes}) +
         part_line("dQ sums", backward.accumulator) +
         part_line("counters", {0, backward.turn.bytes + backward.bias_turn.bytes +
                                       backward.careful.bytes + backward.counter.bytes}) +
         part_line("scratch", backward.scratch);
}

}  // namespace

TileCounts forward_counts(const Schedule::Data& schedule, const HeadTiles& tiles) {
  return count_tiles(tiles.by_query, schedule.shape.query_length, schedule.shape.kv_length);
}

TileCounts backward_counts(const Schedule::Data& schedule, const HeadTiles& tiles) {
  return count_tiles(tiles.by_key, schedule.shape.kv_length, schedule.shape.query_length);
}

io_model::Words forward_words(const Schedule::Data& schedule) {
  return sum_of_parts(schedule, [](const Schedule::Data& one) {
    const io_model::Sizes sizes = sizes_of(one.shape);
    const DecodeLaunch& decode = one.decode;
    if (one.decodes) {
      return io_model::decode_forward(sizes, decode.last_key - decode.first_key,
                                      decode.last_chunk - decode.first_chunk, decode.row_tiles);
    }
    return words_of_classes(one, [&](size_t i) {
      return io_model::tiled_forward(sizes, forward_counts(one, one.forward_tiles[i]));
    });
  });
}

io_model::Words backward_words(const Schedule::Data& schedule) {
  return sum_of_parts(schedule, [](const Schedule::Data& one) {
    const io_model::Sizes sizes = sizes_of(one.shape);
    return io_model::tiled_backward_prepare(sizes) + words_of_classes(one, [&](size_t i) {
             return io_model::tiled_backward(sizes, backward_counts(one, one.backward_tiles[i]));
           });
  });
}

std::string describe(const Problem& problem) {
  return format(
             "%s, %lld query heads over %lld kv heads, head_dim %lld, value_dim %lld, mask %s, "
             "scale %g, %s%s, at most batch %lld, %lld queries, %lld keys",
             dtype_name(problem.dtype), number(problem.query_heads), number(problem.kv_heads),
             number(problem.head_dim), number(problem.value_dim), problem.mask.text().c_str(),
             *problem.scale, problem.has_bias ? "bias" : "no bias",
             problem.has_sink ? ", sink" : "", number(problem.max_batch),
             number(problem.max_query_length), number(problem.max_kv_length)) +
         (problem.dropout > 0 ? format(", dropout %.5g", problem.dropout) : "");
}

std::string picture(const HeadClass& one, const expr::Values& values, const Step& step) {
  expr::TileGrid grid = grid_of(step);
  grid.tile_queries = ceil_divide(std::max<int64_t>(grid.queries, 1), kPictureCells);
  grid.tile_keys = ceil_divide(std::max<int64_t>(grid.keys, 1), kPictureCells);
  const expr::MaskTiles tiles = expr::classify(one.mask, values, grid);
  const TileRows rows = tiles.rows.view();
  std::string text;
  for (int64_t row = 0; row < rows.rows; ++row) {
    std::string line(static_cast<size_t>(grid.columns()), '.');
    for (int64_t i = rows.begin[row]; i < rows.begin[row + 1]; ++i) {
      const TileRun& run = rows.runs[i];
      std::fill(line.begin() + run.first, line.begin() + run.last,
                run.kind == TileKind::kFull ? '#' : '/');
    }
    text += "          " + line + "\n";
  }
  return text;
}

std::string explain_schedule(const Plan::Data& plan, const Schedule::Data& schedule) {
  std::string text = "problem   " + describe(plan.problem) + "\n";
  text += is_ragged(schedule.step) ? ragged_text(plan, schedule) : uniform_text(plan, schedule);
  text += why_backward(plan, schedule);
  text += "tuning    " + plan.tiles.tuning + "\n";
  text += words_text(schedule);
  const io_model::Sizes sizes = sizes_of(schedule.shape);
  text += format("work      forward %.4g FLOP in %lld items, %d of %d threads\n",
                 static_cast<double>(io_model::forward_flops(sizes, schedule.pairs)),
                 number(schedule.items.forward.total()), schedule.forward_workers, plan.threads);
  int64_t whole = 0, shared = 0;
  for (const SchedulePart& part : schedule.parts) {
    whole += part.shares.whole_heads;
    shared += part.shares.shared_heads;
  }
  text += format(
      "          backward %.4g FLOP in %lld whole heads and %lld shared heads of %s%lld key "
      "tiles, %d of %d threads\n",
      static_cast<double>(io_model::backward_flops(sizes, schedule.pairs)), number(whole),
      number(shared), is_ragged(schedule.step) ? "up to " : "", number(schedule.most_key_tiles),
      schedule.backward_workers, plan.threads);
  text += format("          (a thread is used when it gets %.0e FLOP or more)\n",
                 static_cast<double>(kFlopsPerWorker));
  return text + workspace_text(plan, schedule);
}

}  // namespace tilewise
