// SPDX-License-Identifier: Apache-2.0
#include "cli/options.h"

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

}  // namespace

void add_mask(CLI::App& app, Mask& mask) {
  app.add_option_function<std::string>(
         "--mask", [&mask](const std::string& text) { mask = mask_from_text(text); },
         "none, causal (last query aligned with last key), causal-top-left, or window:L,R (from L "
         "keys before to R after the aligned one)")
      ->type_name("MASK")
      ->default_str(mask.text());
}

void add_scale(CLI::App& app, std::optional<double>& scale) {
  app.add_option("--scale", scale, "factor of the scores")
      ->type_name("X")
      ->default_str("1/sqrt(head dim)");
}

void add_dtype(CLI::App& app, DType& dtype) {
  app.add_option_function<std::string>(
         "--dtype", [&dtype](const std::string& text) { dtype = parse_dtype(text); },
         "fp32, bf16, fp16 or fp64")
      ->type_name("DTYPE")
      ->default_str(dtype_name(dtype));
}

void add_dtype(CLI::App& app, std::optional<DType>& dtype, const std::string& default_text) {
  app.add_option_function<std::string>(
         "--dtype", [&dtype](const std::string& text) { dtype = parse_dtype(text); },
         "fp32, bf16, fp16 or fp64")
      ->type_name("DTYPE")
      ->default_str(default_text);
}

void add_isa(CLI::App& app, std::string& isa) {
  app.add_option("--isa", isa, "instruction set: avx512bf16, avx512, avx2 or scalar")
      ->type_name("NAME")
      ->default_str(isa.empty() ? "the best of this CPU" : isa);
}

void add_threads(CLI::App& app, int& threads) {
  app.add_option("--threads", threads, "0: as many as this process may use")
      ->type_name("T")
      ->check(CLI::Range(0, 4096))
      ->default_str(std::to_string(threads));
}

void add_json(CLI::App& app, bool& json) {
  app.add_flag("--json", json, "print one JSON object on stdout");
}

}  // namespace tilewise::cli
