// SPDX-License-Identifier: Apache-2.0
#include "engine/tuned_tiles.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/environment.h"
#include "engine/tiling.h"
#include "kernels/cpu/registry.h"
#include "problem/reject.h"

namespace tilewise {
namespace {

std::string default_file() {
  const std::string folder = environment::config_folder();
  return folder.empty() ? "" : folder + "/tilewise/tuning";
}

[[noreturn]] void reject_file(const std::string& file, const std::string& got) {
  reject("tuning", "file " + file, got,
         "a text file of at most " + std::to_string(kMaxTuningBytes) + " bytes",
         "make it with tilewise tune, or set TILEWISE_TUNING=none");
}

std::string read_file(const std::string& file) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) reject_file(file, "missing");
  if (!std::filesystem::is_regular_file(file, error)) reject_file(file, "no file");
  std::ifstream stream(file, std::ios::binary);
  std::string text(static_cast<size_t>(kMaxTuningBytes) + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad() || !stream.is_open()) reject_file(file, "not readable");
  text.resize(static_cast<size_t>(stream.gcount()));
  if (text.size() > static_cast<size_t>(kMaxTuningBytes)) reject_file(file, "longer");
  return text;
}

const Kernel* find_kernel(const TileClass& of) {
  for (const KernelTable* table : supported_kernels()) {
    if (of.isa != table->name) continue;
    for (const Kernel* kernel : table->kernels) {
      if (of.arithmetic == kernel->arithmetic) return kernel;
    }
  }
  return nullptr;
}

void validate_size(const TunedTiles& tiles, const std::string& file, const char* name, int64_t size,
                   int64_t unit, int64_t max) {
  if (size % unit == 0 && size >= unit && size <= max) return;
  reject_tuning_line(file, tiles.line, "for " + std::to_string(size) + " " + name,
                     "a multiple of " + std::to_string(unit) + " up to " + std::to_string(max));
}

}  // namespace

void validate_tuning(const Tuning& tuning, const std::string& file) {
  for (const TunedTiles& tiles : tuning.tiles) {
    const Kernel* kernel = find_kernel(tiles.of);
    if (kernel == nullptr) {
      reject_tuning_line(file, tiles.line, "for " + tiles.of.arithmetic + " on " + tiles.of.isa,
                         "an arithmetic and instruction set of this build and CPU");
    }
    const Geometry &unit = kernel->limits.unit, &max = kernel->limits.max;
    const bool backward = tiles.of.is_backward;
    validate_size(tiles, file, "queries", tiles.queries,
                  backward ? unit.backward_query_tile : unit.query_tile,
                  backward ? max.backward_query_tile : max.query_tile);
    validate_size(tiles, file, "keys", tiles.keys,
                  backward ? unit.backward_key_tile : unit.key_tile,
                  backward ? max.backward_key_tile : max.key_tile);
  }
}

FoundTuning find_tuning() {
  FoundTuning found;
  const std::string named = environment::tuning();
  if (named == "none") return found;
  found.file = named.empty() ? default_file() : named;
  std::error_code error;
  if (named.empty() && (found.file.empty() || !std::filesystem::exists(found.file, error))) {
    found.file.clear();
    return found;
  }
  try {
    found.tuning = parse_tuning(read_file(found.file), found.file);
    if (named.empty()) {
      found.ignored = machine_difference(found.tuning.machine, this_machine());
      if (!found.ignored.empty()) return found;
    }
    validate_tuning(found.tuning, found.file);
  } catch (const InvalidArgument& invalid) {
    if (!named.empty()) throw;
    found.ignored = invalid.what();
  }
  return found;
}

std::string tuning_in_words(const FoundTuning& found) {
  if (found.file.empty()) return "none";
  return found.is_used() ? found.file : found.file + " is ignored: " + found.ignored;
}

PlanTiles choose_tiles(const std::string& isa, const Kernel& kernel, int64_t head_dim,
                       int64_t value_dim, const Machine& machine, const FoundTuning& found) {
  PlanTiles tiles;
  tiles.geometry = model_geometry(kernel, head_dim, value_dim, machine);
  tiles.tuning = tuning_in_words(found);
  if (!found.is_used()) return tiles;
  TileClass of = {isa, kernel.arithmetic, dim_class(head_dim, value_dim), false};
  if (const TunedTiles* forward = found.tuning.find(of)) {
    tiles.geometry.query_tile = forward->queries;
    tiles.geometry.key_tile = forward->keys;
    tiles.is_forward_tuned = true;
  }
  of.is_backward = true;
  if (const TunedTiles* backward = found.tuning.find(of)) {
    tiles.geometry.backward_query_tile = backward->queries;
    tiles.geometry.backward_key_tile = backward->keys;
    tiles.is_backward_tuned = true;
  }
  return tiles;
}

}  // namespace tilewise
