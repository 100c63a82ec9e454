// SPDX-License-Identifier: Apache-2.0
#include "engine/explain.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "base/dtype.h"
#include "schedule/tile_counts.h"

namespace tilewise {
namespace {

constexpr int64_t kPictureCells = 32;

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

// Between the private caches of a core and everything behind them (docs/io_model.md).
std::string words_text(const Schedule::Data& schedule, const TileCounts& forward) {
  const io_model::Sizes sizes = sizes_of(schedule.shape);
  const DecodeLaunch& decode = schedule.decode;
  const TileCounts by_key = count_tiles(schedule.backward_rows_by_key, schedule.shape.kv_length,
                                        schedule.shape.query_length);
  return "words     moved between the caches of a core and memory, predicted\n" +
         words_line("forward",
                    schedule.decodes ? io_model::decode_forward(
                                           sizes, decode.last_key - decode.first_key,
                                           decode.last_chunk - decode.first_chunk, decode.row_tiles)
                                     : io_model::tiled_forward(sizes, forward),
                    io_model::standard_forward(sizes)) +
         words_line(
             "backward",
             io_model::tiled_backward_prepare(sizes) + io_model::tiled_backward(sizes, by_key),
             io_model::standard_backward(sizes));
}

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
  if (schedule.geometry.query_tile < tiles.query_tile) {
    text += format(
        "          %lld queries shortened in steps of %lld, to even out the items of %d threads\n",
        number(tiles.query_tile), number(plan.kernel->limits.unit.query_tile), plan.threads);
  }
  return text;
}

std::string why_backward(const Plan::Data& plan) {
  const TileBytes bytes = plan.kernel->tile_bytes(plan.problem.head_dim, plan.problem.value_dim);
  const Geometry& tiles = plan.tiles.geometry;
  return format(
      "          %s: P takes %s of L1 %s; Q and dO %s, keys and their gradients %s, of L2 %s\n",
      chosen_by(plan.tiles.is_backward_tuned),
      bytes_text(tiles.backward_query_tile * bytes.backward_scores).c_str(),
      bytes_text(this_machine().l1_bytes()).c_str(),
      bytes_text(tiles.backward_query_tile * bytes.backward_query).c_str(),
      bytes_text(tiles.backward_key_tile * bytes.backward_key).c_str(),
      bytes_text(this_machine().l2_bytes()).c_str());
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

std::string describe(const Problem& problem) {
  return format(
      "%s, %lld query heads over %lld kv heads, head_dim %lld, value_dim %lld, mask %s, "
      "scale %g, %s, at most batch %lld, %lld queries, %lld keys",
      dtype_name(problem.dtype), number(problem.query_heads), number(problem.kv_heads),
      number(problem.head_dim), number(problem.value_dim), problem.mask.text().c_str(),
      *problem.scale, problem.has_bias ? "bias" : "no bias", number(problem.max_batch),
      number(problem.max_query_length), number(problem.max_kv_length));
}

std::string picture(const Band& band, int64_t query_length, int64_t kv_length) {
  const int64_t rows = std::min(query_length, kPictureCells);
  const int64_t columns = std::min(kv_length, kPictureCells);
  std::string text;
  for (int64_t i = 0; i < rows; ++i) {
    text += "          ";
    for (int64_t j = 0; j < columns; ++j) {
      const TileKind kind = classify(band, i * query_length / rows, (i + 1) * query_length / rows,
                                     j * kv_length / columns, (j + 1) * kv_length / columns);
      text += kind == TileKind::kFull ? '#' : kind == TileKind::kPartial ? '/' : '.';
    }
    text += '\n';
  }
  return text;
}

std::string explain_schedule(const Plan::Data& plan, const Schedule::Data& schedule) {
  const Step& step = schedule.step;
  const Geometry& geometry = schedule.geometry;
  const BackwardShares& shares = schedule.shares;
  std::string text = "problem   " + describe(plan.problem) + "\n";
  text += format("step      batch %lld, %lld queries x %lld keys; %lld visible pairs per head\n",
                 number(step.batch), number(step.query_length), number(step.kv_length),
                 number(schedule.pairs));
  text += format("kernel    %s, %s arithmetic\n", plan.isa.c_str(), plan.kernel->arithmetic);
  const TileCounts forward = count_tiles(schedule.forward_rows, step.query_length, step.kv_length);
  const TileCounts backward =
      count_tiles(schedule.backward_rows_by_query, step.query_length, step.kv_length);
  text += schedule.decodes
              ? decode_lines(plan, schedule)
              : tiles_line("forward", forward, geometry.query_tile, geometry.key_tile) +
                    why_forward(plan, schedule);
  text +=
      tiles_line("backward", backward, geometry.backward_query_tile, geometry.backward_key_tile);
  text += why_backward(plan);
  text += "tuning    " + plan.tiles.tuning + "\n";
  text += "picture   queries down, keys right; # full, / partial, . empty\n";
  text += picture(schedule.band, step.query_length, step.kv_length);
  text += words_text(schedule, forward);
  const io_model::Sizes sizes = sizes_of(schedule.shape);
  text += format("work      forward %.4g FLOP in %lld items, %d of %d threads\n",
                 static_cast<double>(io_model::forward_flops(sizes, schedule.pairs)),
                 number(schedule.forward_items), schedule.forward_workers, plan.threads);
  text += format(
      "          backward %.4g FLOP in %lld whole heads and %lld shared heads of %lld key "
      "tiles, %d of %d threads\n",
      static_cast<double>(io_model::backward_flops(sizes, schedule.pairs)),
      number(shares.whole_heads), number(shares.shared_heads), number(shares.key_tiles),
      schedule.backward_workers, plan.threads);
  text += format("          (a thread is used when it gets %.0e FLOP or more)\n",
                 static_cast<double>(kFlopsPerWorker));
  return text + workspace_text(plan, schedule);
}

}  // namespace tilewise
