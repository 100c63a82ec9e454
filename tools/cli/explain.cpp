// SPDX-License-Identifier: Apache-2.0
#include "cli/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "base/dtype.h"
#include "base/message.h"
#include "cli/explain_svg.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/problem_options.h"
#include "engine/explain.h"
#include "engine/plan_data.h"
#include "expr/print.h"
#include "io/atomic_file.h"
#include "schedule/io_model.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

constexpr const char* kHelp =
    R"(A word is one element; words are those between the caches of a core and memory (docs/io_model.md).
Packed words are copied into the kernel's own layout and stay in the caches; this assumes tensors
without gaps and head dims that are multiples of the vectors (others are padded in a copy).

Example:
  tilewise explain --heads 12 --seq 4096 --head-dim 64 --mask window:1024,0 --svg window.svg)";

struct Options {
  ProblemOptions problem;
  bool forward = true;
  bool backward = true;
  std::string svg;  // file to draw into; empty: none
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
        step(step_of(plan.problem(), options)),
        start(std::chrono::steady_clock::now()),
        schedule(plan.schedule(step)),
        plan_seconds(
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()),
        sizes(sizes_of(schedule.data().shape)) {
    const std::string arithmetic = plan.data().kernel->arithmetic;
    const DType dtype = plan.problem().dtype;
    pairs_contracted = arithmetic == "bf16";
    converted = arithmetic == "fp32" && dtype != DType::kFloat32;
  }

  // Q is always transposed. K and V are read where they lie, unless their elements are converted
  // or, in bf16, V is wanted in pairs of keys.
  [[nodiscard]] int64_t packed_forward() const {
    return sum_of_parts(schedule.data(), [&](const Schedule::Data& one) {
      return sum_of_classes(one, [&](size_t i) {
        return io_model::packed_forward(sizes_of(one.shape),
                                        forward_counts(one, one.forward_tiles[i]),
                                        {.query = 1,
                                         .key = converted,
                                         .value = converted || pairs_contracted,
                                         .grad_output = 0});
      });
    });
  }
  // K and V are always transposed. K, Q and dO are needed as rows too: converted ones are copied,
  // Q and dO once per use, and bf16 ones are wanted in pairs of rows.
  [[nodiscard]] int64_t packed_backward() const {
    const int64_t rows = converted ? 2 : pairs_contracted ? 1 : 0;
    return sum_of_parts(schedule.data(), [&](const Schedule::Data& one) {
      return sum_of_classes(one, [&](size_t i) {
        return io_model::packed_backward(
            sizes_of(one.shape), backward_counts(one, one.backward_tiles[i]),
            {.query = rows, .key = rows > 0 ? 2 : 1, .value = 1, .grad_output = rows});
      });
    });
  }
  [[nodiscard]] io_model::Words standard(io_model::Words (*words)(const io_model::Sizes&,
                                                                  int64_t)) const {
    return sum_of_parts(schedule.data(),
                        [&](const Schedule::Data& one) { return words(sizes_of(one.shape), 0); });
  }
  [[nodiscard]] bool pairs_are_exact() const {
    return sum_of_parts(schedule.data(), [](const Schedule::Data& one) {
             return one.heads.pairs_are_exact() ? 0 : 1;
           }) == 0;
  }

  Plan plan;
  Step step;
  std::chrono::steady_clock::time_point start;
  Schedule schedule;
  double plan_seconds;
  io_model::Sizes sizes;
  bool pairs_contracted = false;
  bool converted = false;
};

Json words_json(const io_model::Words& words) {
  return {{"read", words.read}, {"written", words.written}, {"total", words.total()}};
}

// Tiles of every distinct head class, and together; of a ragged batch only together, the classes of
// all sequences.
struct Tiles {
  int64_t full = 0, partial = 0, empty = 0;
  Json classes = Json::array();
};
Tiles count_classes(const Explained& x, bool is_forward) {
  Tiles sum;
  for (const SchedulePart& part : x.schedule.data().parts) {
    const Schedule::Data& data = PartView(x.schedule.data(), part).uniform();
    for (size_t i = 0; i < data.heads.classes.size(); ++i) {
      const TileCounts counts = is_forward ? forward_counts(data, data.forward_tiles[i])
                                           : backward_counts(data, data.backward_tiles[i]);
      sum.full += counts.full;
      sum.partial += counts.partial;
      sum.empty += counts.empty();
      if (part.sequence != nullptr) continue;
      const HeadClass& one = data.heads.classes[i];
      Json partial_because = Json::array();
      for (const expr::OpenPart& open :
           (is_forward ? data.forward_tiles : data.backward_tiles)[i].open_parts)
        partial_because.push_back({{"part", expr::print(open.part)}, {"tiles", open.tiles}});
      sum.classes.push_back({{"batch", one.batch},
                             {"head", one.head},
                             {"heads", one.heads},
                             {"pairs", one.pairs.pairs},
                             {"pairs_are_exact", one.pairs.is_exact},
                             {"tiles_full", counts.full},
                             {"tiles_partial", counts.partial},
                             {"tiles_empty", counts.empty()},
                             {"partial_because", partial_because}});
    }
  }
  return sum;
}

Json tiles_json(const Tiles& tiles, int64_t tile_queries, int64_t tile_keys) {
  return {{"tile_queries", tile_queries}, {"tile_keys", tile_keys},
          {"tiles_full", tiles.full},     {"tiles_partial", tiles.partial},
          {"tiles_empty", tiles.empty},   {"classes", tiles.classes}};
}

Json forward_json(const Explained& x) {
  const Schedule::Data& data = x.schedule.data();
  Json object =
      tiles_json(count_classes(x, true), data.geometry.query_tile, data.geometry.key_tile);
  object.update(
      {{"flops", io_model::forward_flops(x.sizes, data.pairs)},
       {"words", words_json(forward_words(data))},
       {"packed_words", x.packed_forward()},
       {"standard_words", words_json(x.standard(io_model::standard_forward))},
       {"workers", data.forward_workers},
       {"workspace_bytes", data.forward.bytes},
       {"workspace",
        {{"counter", data.forward.counter.bytes}, {"scratch", data.forward.scratch.bytes}}}});
  return object;
}

Json backward_json(const Explained& x) {
  const Schedule::Data& data = x.schedule.data();
  const BackwardLayout& layout = data.backward;
  Json object = tiles_json(count_classes(x, false), data.geometry.backward_query_tile,
                           data.geometry.backward_key_tile);
  const io_model::Words words = backward_words(data);
  object.update({{"flops", io_model::backward_flops(x.sizes, data.pairs)},
                 {"words", words_json(words)},
                 {"packed_words", x.packed_backward()},
                 {"standard_words", words_json(x.standard(io_model::standard_backward))},
                 {"workers", data.backward_workers},
                 {"workspace_bytes", layout.bytes},
                 {"workspace",
                  {{"counter", layout.counter.bytes},
                   {"logsumexp", layout.lse.bytes},
                   {"delta", layout.delta.bytes},
                   {"grad_sink", layout.grad_sink.bytes},
                   {"grad_query_sums", layout.accumulator.bytes},
                   {"turns", layout.turn.bytes},
                   {"bias_turns", layout.bias_turn.bytes},
                   {"careful", layout.careful.bytes},
                   {"scratch", layout.scratch.bytes}}}});
  return object;
}

void print_explained_json(const Options& options, const Explained& x) {
  const Problem& p = x.plan.problem();
  const Schedule::Data& data = x.schedule.data();
  const Tiles tiles = count_classes(x, true);
  const double possible = sum_of_parts(data, [](const Schedule::Data& one) {
    return static_cast<double>(one.shape.batch * one.shape.query_heads) *
           static_cast<double>(one.shape.query_length * one.shape.kv_length);
  });
  Json object = {{"batch", p.max_batch},
                 {"heads", p.query_heads},
                 {"kv_heads", p.kv_heads},
                 {"seq", p.max_query_length},
                 {"kv_seq", p.max_kv_length},
                 {"starts", options.problem.starts},
                 {"head_dim", p.head_dim},
                 {"value_dim", p.value_dim},
                 {"dtype", dtype_name(p.dtype)},
                 {"mask", p.mask.text()},
                 {"score", p.score.text()},
                 {"scale", *p.scale},
                 {"dropout", p.dropout},
                 {"sink", p.has_sink},
                 {"isa", x.plan.isa()},
                 {"arithmetic", x.plan.data().kernel->arithmetic},
                 {"threads", x.plan.threads()},
                 {"tuning", x.plan.data().tiles.tuning},
                 {"pairs", data.pairs},
                 {"pairs_are_exact", x.pairs_are_exact()},
                 {"density", possible > 0 ? static_cast<double>(data.pairs) / possible : 0},
                 {"plan_ms", x.plan_seconds * 1e3},
                 {"tile_queries", data.geometry.query_tile},
                 {"tile_keys", data.geometry.key_tile},
                 {"tiles_full", tiles.full},
                 {"tiles_partial", tiles.partial},
                 {"tiles_empty", tiles.empty},
                 {"workspace_bytes", x.plan.workspace_bytes()}};
  if (options.forward) object["forward"] = forward_json(x);
  if (options.backward) object["backward"] = backward_json(x);
  object["text"] = x.plan.explain(x.schedule);
  print_json("explain", object);
}

void explain(const Options& options) {
  if (!options.svg.empty() && !options.problem.starts.empty()) {
    throw InvalidArgument(message("--svg", "option", "given", "none with --lengths"));
  }
  std::optional<io::AtomicFile> file;  // a bad path is known before anything is planned
  if (!options.svg.empty()) file.emplace(options.svg);
  const Explained explained(options.problem);
  if (file) {
    file->write(explain_svg(explained.plan, explained.schedule));
    file->commit();
  }
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
  add_lengths(*command, options->problem);
  command
      ->add_option_function<std::string>(
          "--pass", [options](const std::string& text) { set_pass(*options, text); },
          "forward, backward or both: whose numbers --json has (default: both)")
      ->type_name("PASS");
  command
      ->add_option("--svg", options->svg,
                   "also draw the tiles of the forward into this file, up to 4 masks of heads")
      ->type_name("FILE");
  add_json(*command, options->json);
  command->footer(kHelp);
  command->callback([options] { explain(*options); });
}

}  // namespace tilewise::cli
