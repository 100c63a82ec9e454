// SPDX-License-Identifier: Apache-2.0
#include "cli/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/report_sections.h"
#include "cli/report_table.h"
#include "io/atomic_file.h"
#include "kernels/cpu/registry.h"
#include "measure/bandwidth.h"
#include "measure/peak.h"
#include "schedule/machine.h"
#include "tilewise/attention.h"
#include "tilewise/error.h"
#include "tilewise/version.h"

namespace tilewise::cli {
namespace {

constexpr const char* kDefaultInput = "data/gpt_layer.safetensors";
constexpr const char* kHelp =
    R"(Writes DIR/report.json: errors on real input, time and memory against length, latency, words
moved and tile sizes, for Tilewise and for standard attention. tools/report/page.py makes the page
of it. ./run does both.

Input tensors: q, k, v [batch, heads, length, dim], optionally do, as for tilewise attend.

Example:
  tilewise report --output report --quick && python3 tools/report/page.py report)";

struct Options {
  std::string output;
  std::string input;
  std::string mask;
  std::string isa;
  int threads = 0;
  bool is_quick = false;
  int64_t max_length = 0;  // 0: 16384, or 1024 in a quick report
  uint64_t seed = 1;
  bool json = false;
};

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &utc);
  return text;
}

std::vector<Peak> measure_peaks(const Plan& plan) {
  std::vector<Peak> peaks;
  const Isa isa = choose_kernels(plan.isa()).isa;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64}) {
    peaks.push_back({dtype, measure::peak_gflops(isa, dtype, plan.threads())});
  }
  return peaks;
}

Json machine_json(const Plan& plan, const std::vector<Peak>& peaks) {
  const Machine machine = this_machine();
  const auto bandwidth =
      measure::measure_bandwidth(plan.threads(), measure::bandwidth_bytes(machine.caches.l3));
  Json result = {{"name", machine.name},
                 {"isa", plan.isa()},
                 {"isas", available_isas()},
                 {"threads", plan.threads()},
                 {"l1_data_bytes", machine.caches.l1_data},
                 {"l2_bytes", machine.caches.l2},
                 {"l3_bytes", machine.caches.l3},
                 {"read_gbytes_per_second", bandwidth.read_gbytes_per_second},
                 {"copy_gbytes_per_second", bandwidth.copy_gbytes_per_second}};
  for (const Peak& peak : peaks) {
    result["peak_gflops_before"][dtype_name(peak.dtype)] = peak.gflops;
  }
  return result;
}

// Of the larger of the peaks measured before and after.
void add_fractions(Json& report, const std::vector<Peak>& peaks) {
  Json& machine = report["machine"];
  for (const Peak& peak : peaks) {
    const char* dtype = dtype_name(peak.dtype);
    machine["peak_gflops_after"][dtype] = peak.gflops;
    machine["peak_gflops"][dtype] =
        std::max(peak.gflops, machine["peak_gflops_before"][dtype].get<double>());
  }
  for (Json& row : report["runtime"]) {
    const double peak = machine["peak_gflops"][row["dtype"].get<std::string>()].get<double>();
    row["forward_fraction_of_peak"] = row["forward_gflops"].get<double>() / peak;
    row["backward_fraction_of_peak"] = row["backward_gflops"].get<double>() / peak;
  }
}

Json measure_all(const Options& options, const ReportInput* input, Progress& progress) {
  const auto start = Clock::now();
  ReportContext context;
  context.is_quick = options.is_quick;
  context.max_length = options.max_length != 0 ? options.max_length
                       : options.is_quick      ? 1024
                                               : 16384;
  context.seed = options.seed;
  context.plan.isa = options.isa;
  context.plan.threads = options.threads;
  context.progress = &progress;
  const Plan plan = make_plan(report_problem(1, 128, DType::kFloat32, Mask()), context.plan);

  Json report = {{"version", TILEWISE_VERSION},
                 {"date", utc_now()},
                 {"quick", options.is_quick},
                 {"seed", options.seed},
                 {"head_dim", kReportHeadDim}};
  Json seconds;
  const auto section = [&](const char* name, const auto& work) {
    const auto begin = Clock::now();
    report[name] = work();
    seconds[name] = since(begin);
    progress.advance();
  };
  section("machine", [&] {
    progress.stage("peak and bandwidth");
    context.peaks = measure_peaks(plan);
    return machine_json(plan, context.peaks);
  });
  if (input != nullptr) section("input", [&] { return report_input(context, *input); });
  section("runtime", [&] { return report_runtime(context); });
  section("memory", [&] { return report_memory(context); });
  section("gpt2", [&] { return report_gpt2(context); });
  section("latency", [&] { return report_latency(context); });
  section("io", [&] { return report_io(context); });
  section("blocks", [&] { return report_blocks(context); });
  section("masks", [&] { return report_masks(context); });
  progress.stage("peak");
  add_fractions(report, measure_peaks(plan));
  report["not_run"] = context.not_run;
  seconds["total"] = since(start);
  report["seconds"] = seconds;
  return report;
}

void make_report(Options options, int& exit_code) {
  if (options.input.empty() && std::filesystem::exists(kDefaultInput)) {
    options.input = kDefaultInput;
  }
  std::error_code error;
  std::filesystem::create_directories(options.output, error);
  const std::string path = options.output + "/report.json";
  io::AtomicFile file(path);  // bad files are known before anything is measured
  const auto input =
      options.input.empty() ? nullptr : load_report_input(options.input, options.mask);

  Json report;
  {
    Progress progress("report", 9);
    report = measure_all(options, input.get(), progress);
  }
  Json object = {{"schema", 1}, {"command", "report"}};
  object.update(report);
  file.write(object.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  file.commit();
  if (options.json) {
    print_json("report", {{"file", path}, {"within_bound", is_within_bound(report)}});
  } else {
    print_report_table(report);
    fmt::print("\n{}\n", one_line(path));
  }
  if (!is_within_bound(report)) exit_code = 1;
}

}  // namespace

void register_report(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("report", "measure everything, for the page of ./run");
  const auto options = std::make_shared<Options>();
  command->add_option("--output", options->output, "folder to write report.json into")
      ->type_name("DIR")
      ->required();
  command
      ->add_option("--input", options->input,
                   std::string("safetensors file with q, k, v and optionally do (default: ") +
                       kDefaultInput + ", if it is there)")
      ->type_name("FILE");
  command
      ->add_option("--mask", options->mask,
                   "of the input: none, causal, causal-top-left or window:L,R (default: the file's "
                   "metadata entry \"mask\", else causal)")
      ->type_name("MASK");
  command->add_flag("--quick", options->is_quick, "short lengths, few rounds: half a minute");
  command
      ->add_option(
          "--max-length", options->max_length,
          "longest sequence measured without a sparse mask (default: 16384, with --quick 1024)")
      ->type_name("N")
      ->check(CLI::Range(int64_t{128}, int64_t{1} << 20).description(""));
  add_isa(*command, options->isa);
  add_threads(*command, options->threads);
  add_json(*command, options->json);
  command->footer(kHelp);
  command->callback([options, &exit_code] { make_report(*options, exit_code); });
}

}  // namespace tilewise::cli
