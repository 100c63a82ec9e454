// SPDX-License-Identifier: Apache-2.0
#include "cli/tables.h"

#include <charconv>
#include <utility>

#include "base/message.h"
#include "io/safetensors.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

bool is_name(const std::string& text) {
  const auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  if (text.empty() || !is_letter(text[0])) return false;
  for (const char c : text) {
    if (!is_letter(c) && !(c >= '0' && c <= '9')) return false;
  }
  return true;
}

// "name=rest".
std::pair<std::string, std::string> split(const char* option, const std::string& text,
                                          const char* expected) {
  const size_t equals = text.find('=');
  const std::string name = text.substr(0, equals);
  if (equals == std::string::npos || equals + 1 == text.size() || !is_name(name)) {
    throw InvalidArgument(
        message(option, "value", "\"" + text + "\"", expected, "a name has letters, digits and _"));
  }
  return {name, text.substr(equals + 1)};
}

bool is_integer(const std::string& type) {
  return type == "I32" || type == "I64" || type == "BOOL";
}

IntegerType integer_type(const std::string& type) {
  return type == "I32"   ? IntegerType::kInt32
         : type == "I64" ? IntegerType::kInt64
                         : IntegerType::kBool;
}

}  // namespace

void Tables::add_table(const std::string& text) {
  constexpr const char* kExpected = "name=FILE:tensor";
  const auto [name, rest] = split("--table", text, kExpected);
  const size_t colon = rest.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == rest.size()) {
    throw InvalidArgument(message("--table", "value", "\"" + text + "\"", kExpected));
  }
  const io::SafetensorsFile file(rest.substr(0, colon));
  const std::string tensor = rest.substr(colon + 1);
  const io::TensorInfo* info = file.find(tensor);
  if (info == nullptr) {
    std::string names;
    for (const io::TensorInfo& other : file.tensors()) {
      names += (names.empty() ? "" : ", ") + other.name;
    }
    if (names.size() > 100) names = names.substr(0, 100) + "...";
    throw InvalidArgument(message(file.path(), "tensor \"" + tensor + "\"", "missing", "a tensor",
                                  "the file has " + (names.empty() ? "none" : names)));
  }
  if (!is_integer(info->type) && !io::float_dtype(info->type)) {
    throw InvalidArgument(message(file.path(), "dtype of tensor \"" + tensor + "\"", info->type,
                                  "I32, I64 or BOOL (integers) or F32, BF16, F16 or F64 (reals)"));
  }
  if (info->shape.empty() || info->shape.size() > 4) {
    throw InvalidArgument(message(file.path(), "shape of tensor \"" + tensor + "\"",
                                  io::shape_text(info->shape), "1 to 4 axes"));
  }
  entries_.push_back({name, std::make_shared<const io::Array>(file.load(*info))});
}

void Tables::add_scalar(const std::string& text) {
  constexpr const char* kExpected = "name=value, a number";
  const auto [name, value] = split("--scalar", text, kExpected);
  const char *first = value.data(), *last = first + value.size();
  int64_t integer = 0;
  double real = 0;
  if (const auto [end, error] = std::from_chars(first, last, integer);
      error == std::errc() && end == last) {
    scalars_.emplace_back(name, integer);
  } else if (const auto [end_real, error_real] = std::from_chars(first, last, real);
             error_real == std::errc() && end_real == last) {
    scalars_.emplace_back(name, real);
  } else {
    throw InvalidArgument(message("--scalar", "value", "\"" + text + "\"", kExpected));
  }
}

void Tables::give(Step& step) const {
  step.scalars = scalars_;
  step.tables.clear();
  for (const Entry& entry : entries_) {
    if (entry.is_real()) continue;
    step.tables.push_back(
        {entry.name, entry.array->data(), integer_type(entry.array->type()), entry.array->shape()});
  }
}

std::vector<NamedTensor> Tables::real_tables() const {
  std::vector<NamedTensor> tables;
  for (const Entry& entry : entries_) {
    if (entry.is_real()) tables.push_back({entry.name, table_tensor(*entry.array)});
  }
  return tables;
}

Tensor table_tensor(const io::Array& array) {
  int64_t shape[4] = {1, 1, 1, 1};
  const size_t first = 4 - array.shape().size();
  for (size_t axis = first; axis < 4; ++axis) shape[axis] = array.shape()[axis - first];
  return Tensor::bhsd(array.data(), *array.dtype(), shape[0], shape[1], shape[2], shape[3]);
}

void add_rules(CLI::App& app, Mask& mask, Score& score, Tables& tables) {
  const auto named = [](const char* option, const auto& read) {
    return [option, read](const std::string& text) {
      try {
        read(text);
      } catch (const InvalidArgument& error) {
        throw InvalidArgument(std::string(option) + ": " + error.what());
      }
    };
  };
  app.add_option_function<std::string>(
         "--mask",
         named("--mask", [&mask](const std::string& text) { mask = mask_from_text(text); }),
         "none, causal (last query aligned with last key), causal-top-left, window:L,R (from L "
         "keys before to R after the aligned one), any rule of docs/rules.md "
         "(@longformer:window=512,global=16), or an expression (k <= q and doc[q] == doc[k]) "
         "(default: " +
             mask.text() + ")")
      ->type_name("MASK");
  app.add_option_function<std::string>(
         "--score",
         named("--score", [&score](const std::string& text) { score = score_from_text(text); }),
         "what the softmax sees of s = scale q.k: a rule (@softcap:cap=30) or an expression "
         "(s - slope[h] * (q - k)) (default: s)")
      ->type_name("SCORE");
  const auto add = [&app](const char* name, const char* type, const char* text, auto set) {
    app.add_option_function<std::vector<std::string>>(
           name,
           [set](const std::vector<std::string>& values) {
             for (const std::string& value : values) set(value);
           },
           text)
        ->type_name(type)
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->allow_extra_args(false);
  };
  add("--table", "NAME=FILE:TENSOR",
      "values of a table in --mask or --score: a tensor of a safetensors file, integers or reals",
      [&tables](const std::string& value) { tables.add_table(value); });
  add("--scalar", "NAME=VALUE", "value of a name in --mask or --score",
      [&tables](const std::string& value) { tables.add_scalar(value); });
}

}  // namespace tilewise::cli
