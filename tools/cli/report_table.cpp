// SPDX-License-Identifier: Apache-2.0
#include "cli/report_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <string>

namespace tilewise::cli {
namespace {

// The first row for which `wanted` holds; nullptr if there is none.
const Json* find(const Json& rows, const std::function<bool(const Json&)>& wanted) {
  for (const Json& row : rows) {
    if (wanted(row)) return &row;
  }
  return nullptr;
}

const Json* find_case(const Json& rows, const Json& like, const char* implementation) {
  return find(rows, [&](const Json& row) {
    return row["dtype"] == like["dtype"] && row["mask"] == like["mask"] &&
           row["length"] == like["length"] && row["implementation"] == implementation;
  });
}

std::string ratio(const Json* other, const Json& ours, const char* key) {
  if (other == nullptr) return "-";
  return fmt::format("{:.1f}x", (*other)[key].get<double>() / ours[key].get<double>());
}

void print_errors(const Json& input) {
  fmt::print("Errors against float64 on {} (mask {}), and of naive attention in the same dtype\n",
             one_line(input["file"].get<std::string>()), input["mask"].get<std::string>());
  fmt::print("{:<7}{:<6}{:>11}{:>11}{:>11}{:>11}\n", "dtype", "", "max", "naive max", "RMS",
             "naive RMS");
  for (const Json& row : input["errors"]) {
    fmt::print("{:<7}{:<6}{:>11.2e}{:>11.2e}{:>11.2e}{:>11.2e}{}\n",
               row["dtype"].get<std::string>(), row["tensor"].get<std::string>(),
               row["max_error"].get<double>(), row["naive_error"].get<double>(),
               row["rms_error"].get<double>(), row["naive_rms_error"].get<double>(),
               row["within_bound"].get<bool>() ? "" : "   BEYOND THE BOUND");
  }
}

// Every case of the longest sequence that standard attention ran, and of the longest of all.
void print_speed(const Json& report) {
  const Json& runtime = report["runtime"];
  int64_t longest = 0, longest_standard = 0;
  for (const Json& row : runtime) {
    const auto length = row["length"].get<int64_t>();
    longest = std::max(longest, length);
    if (row["implementation"] == "standard") longest_standard = std::max(longest_standard, length);
  }
  fmt::print(
      "\nForward and backward of one head, head dim {}; standard attention and Megatron's form as "
      "multiples\n",
      report["head_dim"].get<int>());
  fmt::print("{:<7}{:<8}{:>8}{:>11}{:>9}{:>9}{:>11}{:>11}{:>11}{:>11}\n", "dtype", "mask", "length",
             "time, ms", "fwd/peak", "bwd/peak", "standard", "megatron", "memory", "std memory");
  for (const Json& row : runtime) {
    const auto length = row["length"].get<int64_t>();
    if (row["implementation"] != "tilewise" || (length != longest && length != longest_standard)) {
      continue;
    }
    const Json* memory = find_case(report["memory"], row, "tilewise");
    fmt::print("{:<7}{:<8}{:>8}{:>11.2f}{:>9.2f}{:>9.2f}{:>11}{:>11}{:>11}{:>11}\n",
               row["dtype"].get<std::string>(), row["mask"].get<std::string>(), length,
               row["total_ms"].get<double>() / row["heads"].get<double>(),
               row["forward_fraction_of_peak"].get<double>(),
               row["backward_fraction_of_peak"].get<double>(),
               ratio(find_case(runtime, row, "standard"), row, "total_ms"),
               ratio(find_case(runtime, row, "megatron"), row, "total_ms"),
               memory == nullptr ? "-" : bytes_text((*memory)["total_peak_bytes"].get<double>()),
               memory == nullptr ? "-"
                                 : ratio(find_case(report["memory"], row, "standard"), *memory,
                                         "total_peak_bytes"));
  }
}

void print_latency(const Json& report) {
  fmt::print("\nLatency of one causal forward, batch 1 (median, 99th percentile, us)\n");
  fmt::print("{:<7}{:>8}{:>20}{:>20}{:>20}\n", "dtype", "length", "tilewise", "standard",
             "megatron");
  for (const Json& row : report["latency"]) {
    if (row["implementation"] != "tilewise") continue;
    const auto cell = [&](const char* implementation) {
      const Json* other = find_case(report["latency"], row, implementation);
      if (other == nullptr) return std::string("-");
      return fmt::format("{:.0f} {:>7.0f}", (*other)["median_us"].get<double>(),
                         (*other)["p99_us"].get<double>());
    };
    fmt::print("{:<7}{:>8}{:>20}{:>20}{:>20}\n", row["dtype"].get<std::string>(),
               row["length"].get<int64_t>(), cell("tilewise"), cell("standard"), cell("megatron"));
  }
}

}  // namespace

bool is_within_bound(const Json& report) {
  const auto is_good = [&report](const char* section) {
    if (!report.contains(section)) return true;
    const Json& errors = report[section]["errors"];
    return std::all_of(errors.begin(), errors.end(),
                       [](const Json& row) { return row["within_bound"].get<bool>(); });
  };
  return is_good("input") && is_good("gpt2");
}

void print_report_table(const Json& report) {
  const Json& machine = report["machine"];
  fmt::print("{}, {} threads, {}; peak {:.0f} GFLOP/s fp32, {:.0f} bf16\n\n",
             machine["name"].get<std::string>(), machine["threads"].get<int>(),
             machine["isa"].get<std::string>(), machine["peak_gflops"]["fp32"].get<double>(),
             machine["peak_gflops"]["bf16"].get<double>());
  if (report.contains("input")) print_errors(report["input"]);
  print_speed(report);
  print_latency(report);
  const Json& counts = report["io"]["counts"];
  const auto equal = std::count_if(counts.begin(), counts.end(),
                                   [](const Json& row) { return row["equal"].get<bool>(); });
  fmt::print("\nWords moved: {} of {} counts equal the formula\n", equal, counts.size());
}

}  // namespace tilewise::cli
