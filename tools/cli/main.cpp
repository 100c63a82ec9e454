// SPDX-License-Identifier: Apache-2.0
// tilewise: exact attention from the command line. Exit codes: 0 done, 1 failed (also: a check
// found a difference), 2 invalid input or usage.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <new>
#include <string>

#include "cli/attend.h"
#include "cli/bench.h"
#include "cli/doctor.h"
#include "cli/explain.h"
#include "cli/output.h"
#include "cli/report.h"
#include "cli/tune.h"
#include "cli/verify.h"
#include "tilewise/error.h"
#include "tilewise/version.h"

namespace tilewise::cli {
namespace {

constexpr int kFailed = 1;
constexpr int kInvalid = 2;

// One line per subcommand, in the order of --help. A subcommand that fails throws, or sets
// exit_code.
constexpr void (*kSubcommands[])(CLI::App& app, int& exit_code) = {
    register_attend,  register_verify, register_bench, register_report,
    register_explain, register_doctor, register_tune,
};

constexpr const char* kExamples =
    "Examples:\n"
    "  tilewise attend --input layer.safetensors --output out.safetensors --mask causal\n"
    "  tilewise attend --help\n\n"
    "Exit codes: 0 done, 1 failed, 2 invalid input.";

// The error may come before --json was parsed.
bool wants_json(int argc, char** argv) {
  return std::any_of(argv + 1, argv + argc,
                     [](const char* a) { return std::string(a) == "--json"; });
}

int run(int argc, char** argv) {
  int exit_code = 0;
  const bool json = wants_json(argc, argv);
  CLI::App app("Exact attention, computed tile by tile.", "tilewise");
  app.set_version_flag("--version", "tilewise " TILEWISE_VERSION);
  app.require_subcommand(1);
  app.footer(kExamples);
  for (const auto register_subcommand : kSubcommands) register_subcommand(app, exit_code);

  const auto command = [&] {
    const auto parsed = app.get_subcommands();
    return parsed.empty() ? std::string() : parsed.front()->get_name();
  };
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help_or_version) {
    return app.exit(help_or_version);
  } catch (const CLI::ParseError& error) {
    const std::string name = command();
    print_error(
        name, "invalid_argument",
        std::string(error.what()) + "; see tilewise " + (name.empty() ? "" : name + " ") + "--help",
        json);
    return kInvalid;
  } catch (const InvalidArgument& error) {
    print_error(command(), "invalid_argument", error.what(), json);
    return kInvalid;
  } catch (const DeviceError& error) {
    print_error(command(), "device", error.what(), json);
    return kFailed;
  } catch (const std::bad_alloc&) {
    print_error(command(), "device", "not enough memory", json);
    return kFailed;
  } catch (const std::exception& error) {
    print_error(command(), "internal", error.what(), json);
    return kFailed;
  }
  return exit_code;
}

}  // namespace
}  // namespace tilewise::cli

int main(int argc, char** argv) {
  // A file size limit then is an error of write(), like a full disk, and not the end of the
  // process.
  std::signal(SIGXFSZ, SIG_IGN);
  const int exit_code = tilewise::cli::run(argc, argv);
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    tilewise::cli::print_error("", "device", "cannot write to the standard output", false);
    return tilewise::cli::kFailed;
  }
  return exit_code;
}
