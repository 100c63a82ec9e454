// SPDX-License-Identifier: Apache-2.0
#include "cli/verify.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "tilewise/attention.h"
#include "verify/case.h"
#include "verify/experiment.h"

namespace tilewise::cli {
namespace {

constexpr size_t kMostFailuresPrinted = 20;

constexpr const char* kHelp =
    R"(Each case is a random problem (shapes, strides, masks, bias, dtype, values) in guarded memory.
Forward and backward must be within the error bound of docs/guarantees.md against float64 loops.
A failure prints the line that repeats it. Exit codes: 0 all passed, 1 a case failed.

Examples:
  tilewise verify --count 2000 --isa all
  tilewise verify --isa avx2 --case 'b=2 hq=6 hkv=3 n=37 m=101 d=40 e=72 dtype=bf16 mask=causal')";

struct Options {
  int64_t count = 200;
  uint64_t seed = 1;
  std::string isa;
  std::string one_case;
  int threads = 0;
  bool is_forward_only = false;
  bool json = false;
};

struct Failure {
  std::string isa, text, message;
};

// The largest part of its bound that a result tensor used.
struct Use {
  double max = 0, rms = 0;
};

struct Report {
  int64_t cases = 0;
  std::vector<std::string> isas;
  std::vector<Failure> failures;
  std::map<std::string, Use> use;                               // by result tensor
  std::map<std::string, std::map<std::string, int64_t>> drawn;  // feature, value, cases
};

std::string reproducer(const std::string& isa, const std::string& text) {
  return "tilewise verify --isa " + isa + " --case '" + text + "'";
}

// What to print if a kernel touches a guard page: everything is ready before it happens.
char crash_line[4096];

void print_crash_line(int signal) {
  (void)!write(STDERR_FILENO, crash_line, std::strlen(crash_line));
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void announce(const std::string& line) {
  fmt::format_to_n(crash_line, sizeof crash_line - 1, "\nverify: crashed in\n{}\n{}", line, '\0');
}

double part(double error, double allowed) {
  return error == 0 ? 0 : allowed > 0 ? error / allowed : 1e9;
}

void run_case(const verify::Case& c, const Options& options, Report& report) {
  const std::string text = verify::case_text(c);
  announce("tilewise verify --case '" + text + "'");
  verify::Experiment experiment(c);
  for (const auto& [feature, value] : verify::features(c)) ++report.drawn[feature][value];
  ++report.cases;
  for (const std::string& isa : report.isas) {
    announce(reproducer(isa, text));
    const verify::Verdict verdict = experiment.run(isa, options.threads, !options.is_forward_only);
    for (const verify::Comparison& comparison : verdict.comparisons) {
      Use& use = report.use[comparison.name];
      use.max = std::max(use.max, part(comparison.error.max, comparison.allowed.max));
      use.rms = std::max(use.rms, part(comparison.error.rms, comparison.allowed.rms));
    }
    if (verdict.failure.empty()) continue;
    report.failures.push_back({isa, text, verdict.failure});
    if (options.json || report.failures.size() > kMostFailuresPrinted) continue;
    fmt::print("FAILED {}\n  {}\n", verdict.failure, reproducer(isa, text));
    std::fflush(stdout);
  }
}

void print_text(const Options& options, const Report& report) {
  if (options.one_case.empty()) {
    for (const auto& [feature, values] : report.drawn) {
      fmt::print("{:<16}", feature);
      std::string separator;
      for (const auto& [value, cases] : values) {
        fmt::print("{}{} {}", separator, value, cases);
        separator = ", ";
      }
      fmt::print("\n");
    }
  }
  fmt::print("\nlargest part of the bound used (maximum, RMS):\n");
  for (const auto& [name, use] : report.use) {
    fmt::print("  {:<12} {:5.2f}  {:5.2f}\n", name, use.max, use.rms);
  }
  fmt::print("\n{} cases, seed {}, on {}: {}\n", report.cases, options.seed,
             fmt::join(report.isas, " "),
             report.failures.empty() ? std::string("all passed")
                                     : fmt::format("{} FAILED", report.failures.size()));
}

void print_report_json(const Options& options, const Report& report) {
  Json failures = Json::array();
  for (const Failure& failure : report.failures) {
    failures.push_back({{"isa", failure.isa},
                        {"case", failure.text},
                        {"message", failure.message},
                        {"reproduce", reproducer(failure.isa, failure.text)}});
  }
  Json use = Json::object();
  for (const auto& [name, part] : report.use) use[name] = {{"max", part.max}, {"rms", part.rms}};
  print_json("verify", {{"cases", report.cases},
                        {"seed", options.seed},
                        {"isas", report.isas},
                        {"threads", options.threads},
                        {"passed", report.failures.empty()},
                        {"failures", failures},
                        {"bound_used", use},
                        {"drawn", report.drawn}});
}

void verify_cases(const Options& options, int& exit_code) {
  Report report;
  report.isas = options.isa == "all" ? available_isas() : std::vector<std::string>{options.isa};
  if (options.isa.empty()) report.isas = {available_isas().front()};
  for (const std::string& isa : report.isas) {  // a bad name is an error of the command
    (void)make_plan({.head_dim = 1}, {.isa = isa, .threads = options.threads, .executor = nullptr});
  }
  for (int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) {
    std::signal(signal, print_crash_line);
  }
  if (!options.one_case.empty()) {
    run_case(verify::case_from_text(options.one_case), options, report);
  } else {
    Progress progress("verify", options.count);
    for (int64_t index = 0; index < options.count; ++index) {
      run_case(verify::random_case(options.seed, static_cast<uint64_t>(index)), options, report);
      progress.advance();
    }
  }
  options.json ? print_report_json(options, report) : print_text(options, report);
  if (!report.failures.empty()) exit_code = 1;
}

}  // namespace

void register_verify(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("verify", "random problems against float64");
  const auto options = std::make_shared<Options>();
  command->add_option("--count", options->count, "random cases")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str();
  command->add_option("--seed", options->seed, "of the random cases")
      ->type_name("S")
      ->capture_default_str();
  command->add_option("--isa", options->isa, "instruction set, or all that this CPU runs")
      ->type_name("NAME")
      ->default_str("the best of this CPU");
  command->add_option("--case", options->one_case, "one case, as a failure prints it")
      ->type_name("LINE");
  command->add_flag("--forward-only", options->is_forward_only, "leave out the backward");
  add_threads(*command, options->threads);
  add_json(*command, options->json);
  command->footer(kHelp);
  command->callback([options, &exit_code] { verify_cases(*options, exit_code); });
}

}  // namespace tilewise::cli
