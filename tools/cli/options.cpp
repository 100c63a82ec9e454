// SPDX-License-Identifier: Apache-2.0
#include "cli/options.h"

#include <functional>

#include "base/dtype.h"
#include "base/message.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

DType parse_dtype(const std::string& text) {
  DType dtype = DType::kFloat32;
  if (dtype_from_name(text, dtype)) return dtype;
  throw InvalidArgument(message("--dtype", "value", text, "fp32, bf16, fp16 or fp64"));
}

// CLI11 would print the default into the column of the names.
std::string with_default(const std::string& text, const std::string& value) {
  return text + " (default: " + value + ")";
}

void add_dtype(CLI::App& app, const std::function<void(DType)>& set, const std::string& value) {
  app.add_option_function<std::string>(
         "--dtype", [set](const std::string& text) { set(parse_dtype(text)); },
         with_default("fp32, bf16, fp16 or fp64", value))
      ->type_name("DTYPE");
}

}  // namespace

void add_scale(CLI::App& app, std::optional<double>& scale) {
  app.add_option("--scale", scale, with_default("factor of the scores", "1/sqrt(head dim)"))
      ->type_name("X");
}

CLI::Option* add_dropout(CLI::App& app, double& dropout) {
  return app
      .add_option("--dropout", dropout,
                  with_default("probability with which a pair is dropped", "0"))
      ->type_name("P");
}

void add_dtype(CLI::App& app, DType& dtype) {
  add_dtype(
      app, [&dtype](DType value) { dtype = value; }, dtype_name(dtype));
}

void add_dtype(CLI::App& app, std::optional<DType>& dtype, const std::string& default_text) {
  add_dtype(
      app, [&dtype](DType value) { dtype = value; }, default_text);
}

void add_isa(CLI::App& app, std::string& isa) {
  app.add_option("--isa", isa,
                 with_default("instruction set: amx, avx512bf16, avx512, avx2 or scalar",
                              isa.empty() ? "TILEWISE_ISA, else the best of this CPU" : isa))
      ->type_name("NAME");
}

void add_threads(CLI::App& app, int& threads) {
  app.add_option(
         "--threads", threads,
         with_default("threads; 0: as many as this process may use", std::to_string(threads)))
      ->type_name("T")
      ->check(CLI::Range(0, 4096).description(""));
}

void add_json(CLI::App& app, bool& json) {
  app.add_flag("--json", json, "print one JSON object on stdout");
}

}  // namespace tilewise::cli
