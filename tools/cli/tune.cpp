// SPDX-License-Identifier: Apache-2.0
#include "cli/tune.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/environment.h"
#include "base/message.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/tune_race.h"
#include "io/atomic_file.h"
#include "kernels/cpu/registry.h"
#include "tilewise/attention.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

constexpr const char* kHelp =
    R"(Plans choose tiles from the sizes of the caches. This command times the sizes around that choice on
one core, in turns, and keeps the model's choice unless another is faster by more than 2 % and by
more than the noise. No result depends on tiles, only speed. It takes about a minute, --quick a few
seconds; an idle machine gives better answers. The file is replaced as a whole.

Plans read the file that TILEWISE_TUNING names, else tilewise/tuning in XDG_CONFIG_HOME or
~/.config, where this command writes it unless told otherwise. TILEWISE_TUNING=none: no file.

Examples:
  tilewise tune
  tilewise tune --output tuning --quick && TILEWISE_TUNING=tuning tilewise explain --seq 4096 --head-dim 64)";

struct Options {
  std::string output;
  std::string isa;
  bool quick = false;
  bool json = false;
};

struct Task {
  TileClass of;
  DType dtype;
};

// One table has at most two arithmetics besides float64, which runs on the scalar kernel.
std::vector<Task> tasks_of(const KernelTable& table) {
  std::vector<Task> tasks;
  std::vector<const Kernel*> seen;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    const Kernel* kernel = table.kernels[static_cast<int32_t>(dtype)];
    if (std::find(seen.begin(), seen.end(), kernel) != seen.end()) continue;
    seen.push_back(kernel);
    for (const int64_t dim : kTunedDims) {
      for (const bool is_backward : {false, true}) {
        tasks.push_back({{table.name, kernel->arithmetic, dim, is_backward}, dtype});
      }
    }
  }
  return tasks;
}

// "all" leaves the scalar kernels out: they run where nothing is fast.
std::vector<Task> tasks_of(const std::string& isa) {
  if (isa != "all") return tasks_of(choose_kernels(isa));
  std::vector<Task> tasks;
  for (const KernelTable* table : supported_kernels()) {
    if (table->isa == Isa::kScalar) continue;
    for (const Task& task : tasks_of(*table)) tasks.push_back(task);
  }
  return tasks;
}

std::string default_output() {
  const std::string folder = environment::config_folder();
  if (folder.empty()) {
    throw InvalidArgument(message("tune", "--output", "not given and HOME not set",
                                  "a file to write", "give --output FILE"));
  }
  std::error_code error;
  std::filesystem::create_directories(folder + "/tilewise", error);
  return folder + "/tilewise/tuning";
}

std::string class_text(const TileClass& of) {
  return fmt::format("{} {} {} {}", of.isa, of.arithmetic, of.dim,
                     of.is_backward ? "backward" : "forward");
}

std::string sizes_text(const TileSizes& sizes) {
  return fmt::format("{} x {}", sizes.queries, sizes.keys);
}

void print_table(const std::vector<TuneResult>& results) {
  fmt::print("{:<34}{:>12}{:>12}  gain (queries x keys)\n", "class", "model", "tuned");
  for (const TuneResult& result : results) {
    const bool is_kept = result.tuned == result.model;
    fmt::print(
        "{:<34}{:>12}{:>12}  {}\n", class_text(result.of), sizes_text(result.model),
        is_kept ? "same" : sizes_text(result.tuned),
        is_kept ? ""
                : fmt::format("{:.1f} % +- {:.1f}", 100 * (1 - result.ratio), 100 * result.noise));
  }
}

void print_results_json(const std::string& file, const std::vector<TuneResult>& results) {
  Json classes = Json::array();
  const auto sizes = [](const TileSizes& s) {
    return Json{{"queries", s.queries}, {"keys", s.keys}};
  };
  for (const TuneResult& result : results) {
    classes.push_back({{"isa", result.of.isa},
                       {"arithmetic", result.of.arithmetic},
                       {"dim", result.of.dim},
                       {"pass", result.of.is_backward ? "backward" : "forward"},
                       {"model", sizes(result.model)},
                       {"tuned", sizes(result.tuned)},
                       {"time_ratio", result.ratio},
                       {"time_ratio_noise", result.noise},
                       {"candidates", result.candidates},
                       {"rounds", result.rounds}});
  }
  print_json("tune", {{"file", file}, {"classes", classes}});
}

void tune(const Options& options) {
  const std::vector<Task> tasks = tasks_of(options.isa);
  const std::string path = options.output.empty() ? default_output() : options.output;
  io::AtomicFile file(path);  // before the work: a place that cannot be written is known at once
  TuneLimits limits;
  if (options.quick) limits = {.length = 512, .min_rounds = 5, .max_rounds = 25, .seconds = 0.15};

  Tuning tuning;
  tuning.machine = this_machine();
  std::vector<TuneResult> results;
  {
    Progress progress("tune", static_cast<int64_t>(tasks.size()));
    for (const Task& task : tasks) {
      progress.stage(class_text(task.of));
      results.push_back(tune_class(task.of, task.dtype, limits));
      const TileSizes& tuned = results.back().tuned;
      tuning.tiles.push_back({task.of, tuned.queries, tuned.keys, 0});
      progress.advance();
    }
  }
  file.write(tuning_text(tuning));
  file.commit();
  if (options.json) return print_results_json(path, results);
  print_table(results);
  fmt::print("\n{}\n", one_line(path));
}

}  // namespace

void register_tune(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("tune", "measure which tiles suit this machine");
  const auto options = std::make_shared<Options>();
  command->add_option("--output", options->output, "the file (default: where plans look for it)")
      ->type_name("FILE");
  command
      ->add_option("--isa", options->isa,
                   "instruction set, or all (default: TILEWISE_ISA, else the best of this CPU)")
      ->type_name("NAME");
  command->add_flag("--quick", options->quick, "short runs");
  add_json(*command, options->json);
  command->footer(kHelp);
  command->callback([options] { tune(*options); });
}

}  // namespace tilewise::cli
