// SPDX-License-Identifier: Apache-2.0
#include "verify/case.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "base/dtype.h"
#include "base/message.h"
#include "tilewise/error.h"
#include "tilewise/problem.h"

namespace tilewise::verify {
namespace {

constexpr const char* kValueNames[] = {"normal",  "large",    "huge", "growing",
                                       "falling", "constant", "tiny"};
constexpr const char* kNotANumberNames[] = {"none", "key", "value", "query", "unseen"};
constexpr const char* kSinkNames[] = {"none", "normal", "large", "small", "minusinf", "mixed"};
constexpr const char* kBoolNames[] = {"0", "1"};
constexpr const char* kFlushNames[] = {"left", "right"};

[[noreturn]] void reject(const std::string& name, const std::string& got,
                         const std::string& expected) {
  throw InvalidArgument(message("verify", name, "\"" + got + "\"", expected));
}

// One word of the line: how it is written and read.
struct Field {
  std::string name;
  std::function<std::string(const Case&)> write;
  std::function<void(Case&, const std::string&)> read;
};

template <class Integer>
Field integer(const std::string& name, Integer Case::*member, int64_t low) {
  return {
      name, [=](const Case& c) { return std::to_string(c.*member); },
      [=](Case& c, const std::string& text) {
        char* end = nullptr;
        errno = 0;
        const Integer value = static_cast<Integer>(low < 0 ? std::strtoull(text.c_str(), &end, 10)
                                                           : std::strtoll(text.c_str(), &end, 10));
        if (text.empty() || *end != 0 || errno != 0 ||
            (low >= 0 && static_cast<int64_t>(value) < low)) {
          reject(name, text, "an integer of at least " + std::to_string(std::max<int64_t>(low, 0)));
        }
        c.*member = value;
      }};
}

Field real(const std::string& name, double Case::*member) {
  return {name,
          [=](const Case& c) {
            char text[40];
            std::snprintf(text, sizeof text, "%.17g", c.*member);
            return std::string(text);
          },
          [=](Case& c, const std::string& text) {
            char* end = nullptr;
            c.*member = std::strtod(text.c_str(), &end);
            if (text.empty() || *end != 0) reject(name, text, "a number");
          }};
}

template <class Enum, size_t kCount>
Field choice(const std::string& name, Enum Case::*member, const char* const (&names)[kCount]) {
  const char* const* table = names;
  return {name, [=](const Case& c) { return std::string(table[static_cast<size_t>(c.*member)]); },
          [=](Case& c, const std::string& text) {
            std::string known;
            for (size_t n = 0; n < kCount; ++n) {
              if (text == table[n]) {
                c.*member = static_cast<Enum>(n);
                return;
              }
              known += std::string(n == 0 ? "" : ", ") + table[n];
            }
            reject(name, text, "one of " + known);
          }};
}

Field dtype(const std::string& name, DType Case::*member) {
  return {name, [=](const Case& c) { return std::string(dtype_name(c.*member)); },
          [=](Case& c, const std::string& text) {
            if (!dtype_from_name(text, c.*member)) reject(name, text, "fp32, bf16, fp16 or fp64");
          }};
}

Field layout(const std::string& name, Layout Case::*member) {
  return {name, [=](const Case& c) { return layout_text(c.*member); },
          [=](Case& c, const std::string& text) { c.*member = layout_from_text(text); }};
}

void read_bias(Case& c, const std::string& text) {
  for (const char* known : {"none", "k", "nk", "hk", "hnk", "bk", "bnk", "bhk", "bhnk"}) {
    if (text == known) {
      c.bias = text;
      return;
    }
  }
  reject("bias", text, "none, or the axes it has in the order bhnk, k among them");
}

void read_mask(Case& c, const std::string& text) { c.mask = mask_from_text(text).text(); }
void read_score(Case& c, const std::string& text) { c.score = score_from_text(text).text(); }
std::string lengths_text(const Case& c) {
  std::string text;
  for (const auto& [queries, keys] : c.lengths) {
    if (!text.empty()) text += ',';
    text.append(std::to_string(queries)).append(":").append(std::to_string(keys));
  }
  return text;
}
void read_lengths(Case& c, const std::string& text) {
  for (const char* at = text.c_str(); *at != 0;) {
    char *colon = nullptr, *end = nullptr;
    const int64_t queries = std::strtoll(at, &colon, 10);
    const int64_t keys = *colon == ':' ? std::strtoll(colon + 1, &end, 10) : -1;
    if (queries < 0 || keys < 0 || colon == at || end == colon + 1 || (*end != ',' && *end != 0))
      reject("lengths", text, "queries:keys of every sequence, such as 37:101,0:5");
    c.lengths.emplace_back(queries, keys);
    at = *end == ',' ? end + 1 : end;
  }
}

std::string quoted(const std::string& text) {
  return text.find(' ') == std::string::npos ? text : '"' + text + '"';
}

const std::vector<Field>& fields() {
  static const std::vector<Field> all = {
      integer("b", &Case::batch, 0),
      integer("hq", &Case::query_heads, 1),
      integer("hkv", &Case::kv_heads, 1),
      integer("n", &Case::query_length, 0),
      integer("m", &Case::kv_length, 0),
      {"lengths", lengths_text, read_lengths},
      integer("d", &Case::head_dim, 1),
      integer("e", &Case::value_dim, 1),
      dtype("dtype", &Case::dtype),
      {"mask", [](const Case& c) { return quoted(c.mask); }, read_mask},
      {"score", [](const Case& c) { return quoted(c.score); }, read_score},
      real("scale", &Case::scale),
      integer("qoff", &Case::query_offset, 0),
      integer("koff", &Case::key_offset, 0),
      integer("boff", &Case::batch_offset, 0),
      integer("hoff", &Case::head_offset, 0),
      {"bias", [](const Case& c) { return c.bias; }, read_bias},
      dtype("biastype", &Case::bias_dtype),
      real("biasinf", &Case::bias_minus_infinity),
      real("dropout", &Case::dropout),
      choice("sink", &Case::sink, kSinkNames),
      choice("dlse", &Case::has_grad_logsumexp, kBoolNames),
      choice("samebits", &Case::same_bits_as_prefill, kBoolNames),
      choice("wideoutput", &Case::has_wide_output, kBoolNames),
      choice("packed", &Case::is_packed, kBoolNames),
      layout("q", &Case::query),
      layout("k", &Case::key),
      layout("v", &Case::value),
      layout("o", &Case::output),
      layout("g", &Case::gradient),
      choice("values", &Case::values, kValueNames),
      choice("nan", &Case::not_a_number, kNotANumberNames),
      choice("guard", &Case::flush, kFlushNames),
      integer("seed", &Case::seed, -1),
  };
  return all;
}

}  // namespace

std::string case_text(const Case& c) {
  const Case defaults;
  std::string line;
  for (const Field& field : fields()) {
    const std::string text = field.write(c);
    if (text == field.write(defaults)) continue;
    line += (line.empty() ? "" : " ") + field.name + "=" + text;
  }
  return line;
}

// Separated by blanks, except inside of quotes, which are dropped.
std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  bool in_word = false, in_quotes = false;
  for (const char c : text) {
    if (c == '"') {
      in_quotes = !in_quotes;
    } else if (!in_quotes && (c == ' ' || c == '\t' || c == '\n' || c == '\r')) {
      in_word = false;
    } else {
      if (!in_word) words.emplace_back();
      in_word = true;
      words.back() += c;
    }
  }
  return words;
}

Case case_from_text(const std::string& text) {
  Case c;
  for (const std::string& word : words_of(text)) {
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const Field* found = nullptr;
    for (const Field& field : fields()) {
      if (field.name == name) found = &field;
    }
    if (found == nullptr || equals == std::string::npos) {
      reject("case", word, "words of the form name=value, with a name that case lines use");
    }
    found->read(c, word.substr(equals + 1));
  }
  if (!c.lengths.empty()) {
    int64_t queries = 0, keys = 0;
    for (const auto& [n, m] : c.lengths) queries += n, keys += m;
    c.batch = static_cast<int64_t>(c.lengths.size());
    c.query_length = std::max(c.query_length, queries);
    c.kv_length = std::max(c.kv_length, keys);
  }
  if (c.is_packed && (c.query_length != c.kv_length || c.head_dim != c.value_dim)) {
    reject("packed", "1", "0 unless n = m and d = e: one tensor holds q, k and v");
  }
  return c;
}

std::optional<uint64_t> dropout_seed(const Case& c) {
  if (c.dropout == 0) return {};
  return c.seed * 0x9E3779B97F4A7C15 + 1;  // all 64 bits matter
}

std::vector<std::pair<std::string, std::string>> features(const Case& c) {
  const auto group = c.query_heads / c.kv_heads;
  const auto layouts = [&](const Layout& l) {
    if (!l.broadcast.empty()) return "broadcast";
    if (!l.reversed.empty()) return "negative stride";
    if (l.order[3] != 'd' || l.step != 1) return "inner stride not 1";
    return l.order == "bhsd" ? "bhsd" : "other order";
  };
  const std::string lengths = !c.lengths.empty()              ? "ragged"
                              : c.batch == 0                  ? "no batch"
                              : c.query_length == 0           ? "no queries"
                              : c.kv_length == 0              ? "no keys"
                              : c.query_length == 1           ? "one query"
                              : c.query_length == c.kv_length ? "n = m"
                              : c.query_length < c.kv_length  ? "n < m"
                                                              : "n > m";
  return {{"dtype", dtype_name(c.dtype)},
          {"mask", c.mask.find(' ') == std::string::npos ? c.mask.substr(0, c.mask.find(':'))
                                                         : "an expression"},
          {"score", c.score == "s"                           ? "none"
                    : c.score.find('[') == std::string::npos ? "without tables"
                                                             : "with tables"},
          {"heads", group == 1        ? "one kv head each"
                    : c.kv_heads == 1 ? "multi-query"
                                      : "grouped"},
          {"lengths", lengths},
          {"few queries", !c.lengths.empty()       ? "ragged"
                          : c.query_length > 16    ? "no"
                          : c.kv_length <= 1024    ? "one chunk of keys"
                          : c.same_bits_as_prefill ? "bits of prefill"
                                                   : "several chunks of keys"},
          {"head_dim", c.head_dim == c.value_dim ? "d = e" : "d != e"},
          {"bias", c.bias},
          {"bias entries", c.bias == "none"            ? "none"
                           : c.bias_minus_infinity > 0 ? "some -inf"
                                                       : "finite"},
          {"sink", kSinkNames[static_cast<size_t>(c.sink)]},
          {"key layout", c.is_packed ? "packed qkv" : layouts(c.key)},
          {"output layout", layouts(c.output)},
          {"output dtype", c.has_wide_output ? "fp32" : "as dtype"},
          {"values", kValueNames[static_cast<size_t>(c.values)]},
          {"nan", kNotANumberNames[static_cast<size_t>(c.not_a_number)]},
          {"grad_logsumexp", c.has_grad_logsumexp ? "given" : "absent"},
          {"dropout", c.dropout > 0 ? "given" : "none"},
          {"scale", c.scale > 0 ? "given" : "default"},
          {"offsets", c.query_offset != 0 || c.key_offset != 0 ? "given" : "zero"}};
}

}  // namespace tilewise::verify
