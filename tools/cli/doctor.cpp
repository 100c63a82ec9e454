// SPDX-License-Identifier: Apache-2.0
#include "cli/doctor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/utsname.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/environment.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "engine/tuned_tiles.h"
#include "kernels/cpu/registry.h"
#include "measure/bandwidth.h"
#include "measure/peak.h"
#include "schedule/machine.h"
#include "tilewise/attention.h"
#include "tilewise/error.h"
#include "tilewise/version.h"

namespace tilewise::cli {
namespace {

constexpr const char* kHelp =
    R"(Peaks are those of the multiply-add (fp32) and dot product (bf16) units with everything in
registers; the bandwidth is that of memory, with arrays four times the last cache. Both take about
two seconds, on an idle machine; --bug leaves them out.

Examples:
  tilewise doctor
  tilewise doctor --bug >> report.md)";

struct Options {
  std::string isa;
  int threads = 0;
  bool bug = false;
  bool json = false;
};

struct Setting {
  std::string name;
  std::string value;
};

struct Findings {
  Machine machine;
  std::vector<std::string> isas;
  std::string isa;          // chosen; empty if none could be
  std::string isa_problem;  // why not
  int threads = 1;
  std::string tuning;  // the file in use, or why none
  std::vector<Setting> environment;
  std::string system;
  std::optional<measure::Bandwidth> bandwidth;  // measured, as the peaks of the machine
};

std::string system_text() {
  utsname name{};
  if (uname(&name) != 0) return "unknown";
  return fmt::format("{} {} {}", name.sysname, name.release, name.machine);
}

std::string build_text() {
#ifdef NDEBUG
  const char* assertions = "without assertions";
#else
  const char* assertions = "with assertions";
#endif
#ifdef __clang__
  return fmt::format("{}, {}", __VERSION__, assertions);
#else
  return fmt::format("GCC {}, {}", __VERSION__, assertions);
#endif
}

// A bad setting is a finding, not a failure of the doctor.
std::string setting(const std::function<std::string()>& read) {
  try {
    const std::string value = read();
    return value.empty() ? "not set" : value;
  } catch (const InvalidArgument& error) {
    return error.what();
  }
}

std::vector<Setting> environment_settings() {
  return {{"TILEWISE_ISA", setting(environment::isa)},
          {"TILEWISE_NUM_THREADS", setting([] {
             const int threads = environment::num_threads();
             return threads == 0 ? std::string() : std::to_string(threads);
           })},
          {"TILEWISE_TUNING", setting(environment::tuning)},
          {"TILEWISE_VERBOSE", environment::verbose() ? "1" : "not set"}};
}

Findings look(const Options& options) {
  Findings found;
  found.machine = this_machine();
  found.isas = available_isas();
  found.threads = options.threads > 0 ? options.threads : found.machine.threads;
  found.tuning = setting([] { return tuning_in_words(find_tuning()); });
  found.environment = environment_settings();
  found.system = system_text();
  if (!options.isa.empty()) {
    found.isa = choose_kernels(options.isa).name;  // the user's mistake is an error
    return found;
  }
  try {
    found.isa = choose_kernels("").name;
  } catch (const InvalidArgument& error) {
    found.isa_problem = error.what();
  }
  return found;
}

void measure_machine(Findings& found) {
  Progress progress("doctor");
  Machine& machine = found.machine;
  const std::string& name = found.isa.empty() ? found.isas.front() : found.isa;
  const Isa isa = choose_kernels(name).isa;
  progress.stage("peak fp32");
  machine.peak_fp32_gflops = measure::peak_gflops(isa, DType::kFloat32, found.threads, 0.4);
  progress.stage("peak bf16");
  machine.peak_bf16_gflops = measure::peak_gflops(isa, DType::kBFloat16, found.threads, 0.4);
  progress.stage("bandwidth");
  found.bandwidth =
      measure::measure_bandwidth(found.threads, measure::bandwidth_bytes(machine.caches.l3), 0.6);
  machine.read_gbytes_per_second = found.bandwidth->read_gbytes_per_second;
}

std::string cache_text(int64_t bytes) {
  return bytes == 0 ? "unknown" : fmt::format("{} KiB", bytes / 1024);
}

void print_lines(const Findings& found, const char* pattern) {
  const auto line = [pattern](const std::string& name, const std::string& value) {
    fmt::print(fmt::runtime(pattern), name, one_line(value));
  };
  const Machine& machine = found.machine;
  line("version", "tilewise " TILEWISE_VERSION);
  line("build", build_text());
  line("system", found.system);
  line("cpu", machine.name);
  line("instruction sets", fmt::format("{}", fmt::join(found.isas, ", ")));
  line("chosen", found.isa.empty() ? "none: " + found.isa_problem : found.isa);
  line("caches", fmt::format("L1 {}, L2 {}, L3 {}, lines of {} bytes",
                             cache_text(machine.caches.l1_data), cache_text(machine.caches.l2),
                             cache_text(machine.caches.l3), machine.caches.line));
  line("threads allowed", std::to_string(machine.threads));
  line("tuning", found.tuning);
  for (const Setting& variable : found.environment) line(variable.name, variable.value);
  if (!found.bandwidth) return;
  line("peak fp32",
       fmt::format("{:.1f} GFLOP/s with {} threads", machine.peak_fp32_gflops, found.threads));
  line("peak bf16",
       fmt::format("{:.1f} GFLOP/s with {} threads", machine.peak_bf16_gflops, found.threads));
  line("bandwidth",
       fmt::format("copy {:.1f} GB/s, read {:.1f} GB/s", found.bandwidth->copy_gbytes_per_second,
                   found.bandwidth->read_gbytes_per_second));
}

void print_findings_json(const Findings& found) {
  const Machine& machine = found.machine;
  Json variables = Json::object();
  for (const Setting& variable : found.environment) variables[variable.name] = variable.value;
  Json object = {{"version", TILEWISE_VERSION},
                 {"build", build_text()},
                 {"system", found.system},
                 {"cpu", machine.name},
                 {"isas", found.isas},
                 {"isa", found.isa},
                 {"caches",
                  {{"l1_data", machine.caches.l1_data},
                   {"l2", machine.caches.l2},
                   {"l3", machine.caches.l3},
                   {"line", machine.caches.line}}},
                 {"threads_allowed", machine.threads},
                 {"threads", found.threads},
                 {"tuning", found.tuning},
                 {"environment", variables}};
  if (!found.isa_problem.empty()) object["isa_problem"] = found.isa_problem;
  if (found.bandwidth) {
    object.update({{"peak_fp32_gflops", machine.peak_fp32_gflops},
                   {"peak_bf16_gflops", machine.peak_bf16_gflops},
                   {"copy_gbytes_per_second", found.bandwidth->copy_gbytes_per_second},
                   {"read_gbytes_per_second", found.bandwidth->read_gbytes_per_second}});
  }
  print_json("doctor", object);
}

void doctor(const Options& options) {
  Findings found = look(options);
  if (!options.bug) measure_machine(found);
  if (options.json) return print_findings_json(found);
  if (!options.bug) return print_lines(found, "{:<22}{}\n");
  fmt::print("## Environment\n\n");
  print_lines(found, "- {}: {}\n");
  fmt::print(
      "\n## What happened\n\n"
      "The command (for `tilewise verify`: the line it printed), what it printed, and what you "
      "expected instead.\n");
}

}  // namespace

void register_doctor(CLI::App& app, int&) {
  CLI::App* command =
      app.add_subcommand("doctor", "what this machine is and how fast; what a bug report needs");
  const auto options = std::make_shared<Options>();
  add_isa(*command, options->isa);
  add_threads(*command, options->threads);
  command->add_flag("--bug", options->bug, "print what a bug report needs");
  add_json(*command, options->json);
  command->footer(kHelp);
  command->callback([options] { doctor(*options); });
}

}  // namespace tilewise::cli
