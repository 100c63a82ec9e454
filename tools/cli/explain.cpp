// SPDX-License-Identifier: Apache-2.0
#include "cli/explain.h"

#include <fmt/format.h>

#include <memory>
#include <string>

#include "base/dtype.h"
#include "base/message.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/problem_options.h"
#include "engine/explain.h"
#include "engine/plan_data.h"
#include "schedule/io_model.h"
#include "schedule/tile_counts.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

constexpr const char* kHelp =
    R"(A word is one element; words are those between the caches of a core and memory (docs/io_model.md).
Packed words are copied into the kernel's own layout and stay in the caches; this assumes tensors
without gaps and head dims that are multiples of the vectors (others are padded in a copy).

Example:
  tilewise explain --heads 12 --seq 4096 --head-dim 64 --mask window:1024,0)";

struct Options {
  ProblemOptions problem;
  bool forward = true;
  bool backward = true;
  bool json = false;
};

void set_pass(Options& options, const std::string& text) {
  if (text != "forward" && text != "backward" && text != "both") {
    throw InvalidArgument(message("--pass", "value", text, "forward, backward or both"));
  }
  options.forward = text != "backward";
  options.backward = text != "forward";
}

// One plan and schedule with what the IO model says about them.
struct Explained {
  explicit Explained(const ProblemOptions& options)
      : plan(make_plan(options.problem, options.plan)),
        schedule(plan.schedule(step_of(plan.problem()))),
        shape(schedule.data().shape),
        sizes{shape.batch,     shape.query_heads, shape.kv_heads, shape.query_length,
              shape.kv_length, shape.head_dim,    shape.value_dim},
        by_query(count_tiles(schedule.data().forward_rows, shape.query_length, shape.kv_length)),
        by_key(count_tiles(schedule.data().backward_rows_by_key, shape.kv_length,
                           shape.query_length)) {
    const std::string arithmetic = plan.data().kernel->arithmetic;
    const DType dtype = plan.problem().dtype;
    pairs_contracted = arithmetic == "bf16";
    converted = arithmetic == "fp32" && dtype != DType::kFloat32;
  }

  // Q is always transposed. K and V are read where they lie, unless their elements are converted
  // or, in bf16, V is wanted in pairs of keys.
  [[nodiscard]] int64_t packed_forward() const {
    return io_model::packed_forward(
        sizes, by_query,
        {.query = 1, .key = converted, .value = converted || pairs_contracted, .grad_output = 0});
  }
  // K and V are always transposed. K, Q and dO are needed as rows too: converted ones are copied,
  // Q and dO once per use, and bf16 ones are wanted in pairs of rows.
  [[nodiscard]] int64_t packed_backward() const {
    const int64_t rows = converted ? 2 : pairs_contracted ? 1 : 0;
    return io_model::packed_backward(
        sizes, by_key, {.query = rows, .key = rows > 0 ? 2 : 1, .value = 1, .grad_output = rows});
  }

  Plan plan;
  Schedule schedule;
  AttentionShape shape;
  io_model::Sizes sizes;
  TileCounts by_query;
  TileCounts by_key;
  bool pairs_contracted = false;
  bool converted = false;
};

Json words_json(const io_model::Words& words) {
  return {{"read", words.read}, {"written", words.written}, {"total", words.total()}};
}

Json tiles_json(const TileCounts& counts, int64_t tile_queries, int64_t tile_keys) {
  return {{"tile_queries", tile_queries},
          {"tile_keys", tile_keys},
          {"tiles_full", counts.full},
          {"tiles_partial", counts.partial},
          {"tiles_empty", counts.empty()}};
}

Json forward_json(const Explained& x) {
  const Schedule::Data& data = x.schedule.data();
  Json object = tiles_json(x.by_query, data.geometry.query_tile, data.geometry.key_tile);
  object.update(
      {{"flops", io_model::forward_flops(x.sizes, data.pairs)},
       {"words", words_json(io_model::tiled_forward(x.sizes, x.by_query))},
       {"packed_words", x.packed_forward()},
       {"standard_words", words_json(io_model::standard_forward(x.sizes))},
       {"workers", data.forward_workers},
       {"workspace_bytes", data.forward.bytes},
       {"workspace",
        {{"counter", data.forward.counter.bytes}, {"scratch", data.forward.scratch.bytes}}}});
  return object;
}

Json backward_json(const Explained& x) {
  const Schedule::Data& data = x.schedule.data();
  const BackwardLayout& layout = data.backward;
  Json object =
      tiles_json(x.by_key, data.geometry.backward_query_tile, data.geometry.backward_key_tile);
  const io_model::Words words =
      io_model::tiled_backward_prepare(x.sizes) + io_model::tiled_backward(x.sizes, x.by_key);
  object.update({{"flops", io_model::backward_flops(x.sizes, data.pairs)},
                 {"words", words_json(words)},
                 {"packed_words", x.packed_backward()},
                 {"standard_words", words_json(io_model::standard_backward(x.sizes))},
                 {"workers", data.backward_workers},
                 {"workspace_bytes", layout.bytes},
                 {"workspace",
                  {{"counter", layout.counter.bytes},
                   {"logsumexp", layout.lse.bytes},
                   {"delta", layout.delta.bytes},
                   {"grad_query_sums", layout.accumulator.bytes},
                   {"turns", layout.turn.bytes},
                   {"bias_turns", layout.bias_turn.bytes},
                   {"careful", layout.careful.bytes},
                   {"scratch", layout.scratch.bytes}}}});
  return object;
}

void print_explained_json(const Options& options, const Explained& x) {
  const Problem& p = x.plan.problem();
  Json object = {{"batch", p.max_batch},
                 {"heads", p.query_heads},
                 {"kv_heads", p.kv_heads},
                 {"seq", p.max_query_length},
                 {"kv_seq", p.max_kv_length},
                 {"head_dim", p.head_dim},
                 {"value_dim", p.value_dim},
                 {"dtype", dtype_name(p.dtype)},
                 {"mask", p.mask.text()},
                 {"scale", *p.scale},
                 {"isa", x.plan.isa()},
                 {"arithmetic", x.plan.data().kernel->arithmetic},
                 {"threads", x.plan.threads()},
                 {"tuning", x.plan.data().tiles.tuning},
                 {"pairs", x.schedule.data().pairs},
                 {"workspace_bytes", x.plan.workspace_bytes()}};
  if (options.forward) object["forward"] = forward_json(x);
  if (options.backward) object["backward"] = backward_json(x);
  object["text"] = x.plan.explain(x.schedule);
  print_json("explain", object);
}

void explain(const Options& options) {
  const Explained explained(options.problem);
  if (options.json) return print_explained_json(options, explained);
  fmt::print("{}", explained.plan.explain(explained.schedule));
  fmt::print("packing   copied into the kernel's layout, within the caches\n");
  if (options.forward) fmt::print("  forward  {} words\n", explained.packed_forward());
  if (options.backward) fmt::print("  backward {} words\n", explained.packed_backward());
}

}  // namespace

void register_explain(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("explain", "tiles, words, memory of one problem, and why");
  const auto options = std::make_shared<Options>();
  add_problem(*command, options->problem);
  command
      ->add_option_function<std::string>(
          "--pass", [options](const std::string& text) { set_pass(*options, text); },
          "forward, backward or both: whose numbers --json has (default: both)")
      ->type_name("PASS");
  add_json(*command, options->json);
  command->footer(kHelp);
  command->callback([options] { explain(*options); });
}

}  // namespace tilewise::cli
