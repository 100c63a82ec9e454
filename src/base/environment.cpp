// SPDX-License-Identifier: Apache-2.0
#include "base/environment.h"

#include <charconv>
#include <cstdlib>

#include "base/message.h"
#include "tilewise/error.h"

namespace tilewise::environment {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

std::string isa() { return variable("TILEWISE_ISA"); }

int num_threads() {
  const std::string text = variable("TILEWISE_NUM_THREADS");
  if (text.empty()) return 0;
  int threads = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), threads);
  if (error != std::errc{} || end != text.data() + text.size() || threads < 1 || threads > 4096) {
    throw InvalidArgument(message("environment", "TILEWISE_NUM_THREADS", "\"" + text + "\"",
                                  "an integer from 1 to 4096",
                                  "unset it to use every core this process may use"));
  }
  return threads;
}

std::string tuning() { return variable("TILEWISE_TUNING"); }

bool verbose() { return variable("TILEWISE_VERBOSE") == "1"; }

std::string config_folder() {
  const std::string config = variable("XDG_CONFIG_HOME"), home = variable("HOME");
  if (config.starts_with('/')) return config;
  return home.starts_with('/') ? home + "/.config" : "";
}

}  // namespace tilewise::environment
