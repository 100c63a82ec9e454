// SPDX-License-Identifier: Apache-2.0
#include "schedule/tuning.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "problem/reject.h"

namespace tilewise {
namespace {

constexpr const char* kFirstLine = "tilewise-tuning 1";
constexpr int64_t kMaxCacheBytes = int64_t{1} << 50;
constexpr int64_t kMaxThreads = 1 << 20;

// A line of the file as it may stand in a message.
std::string quoted(std::string_view text) {
  constexpr size_t kMost = 80;
  std::string result = "\"";
  result += text.substr(0, kMost);
  for (char& c : result) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  return result + (text.size() > kMost ? "...\"" : "\"");
}

class Parser {
 public:
  Parser(std::string_view text, const std::string& file) : rest_(text), file_(file) {}

  Tuning parse() {
    Tuning tuning;
    next(quoted(kFirstLine));
    if (line_ != kFirstLine) fail(quoted(kFirstLine));
    tuning.machine.name = name("cpu <name>");
    numbers("caches <L1> <L2> <L3>", 0, kMaxCacheBytes,
            {&tuning.machine.caches.l1_data, &tuning.machine.caches.l2, &tuning.machine.caches.l3});
    int64_t threads = 0;
    numbers("threads <count>", 1, kMaxThreads, {&threads});
    tuning.machine.threads = static_cast<int>(threads);
    for (next(kTilesOrEnd); line_ != "end"; next(kTilesOrEnd)) {
      const TunedTiles tiles = tiles_of_line();
      if (const TunedTiles* other = tuning.find(tiles.of)) {
        fail("no second line for the class of line " + std::to_string(other->line));
      }
      tuning.tiles.push_back(tiles);
    }
    if (!rest_.empty()) {
      next("nothing after \"end\"");
      fail("nothing after \"end\"");
    }
    return tuning;
  }

 private:
  static constexpr const char* kTilesOrEnd =
      "\"tiles <instruction set> <arithmetic> <64, 128 or 256> <forward or backward> <queries> "
      "<keys>\" or \"end\"";

  [[noreturn]] void fail(const std::string& expected) const {
    reject_tuning_line(file_, number_, quoted(line_), expected);
  }

  void next(const std::string& expected) {
    ++number_;
    const size_t end = rest_.find('\n');
    line_ = rest_.substr(0, end);
    if (end == std::string_view::npos) {
      reject_tuning_line(file_, number_, line_.empty() ? "missing" : quoted(line_) + " without end",
                         expected + " and a line end");
    }
    rest_.remove_prefix(end + 1);
  }

  // Words of the line between single spaces.
  [[nodiscard]] std::vector<std::string_view> words() const {
    std::vector<std::string_view> result;
    std::string_view rest = line_;
    while (true) {
      const size_t space = rest.find(' ');
      result.push_back(rest.substr(0, space));
      if (space == std::string_view::npos) return result;
      rest.remove_prefix(space + 1);
    }
  }

  [[nodiscard]] int64_t number(std::string_view word, int64_t low, int64_t high,
                               const std::string& expected) const {
    int64_t value = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    const bool has_zeros = word.size() > 1 && word[0] == '0';
    if (error != std::errc{} || has_zeros || end != word.data() + word.size() || value < low ||
        value > high) {
      fail(expected + ", numbers from " + std::to_string(low) + " to " + std::to_string(high));
    }
    return value;
  }

  std::string name(const char* pattern) {
    const std::string expected = quoted(pattern);
    next(expected);
    constexpr std::string_view kKey = "cpu ";
    if (!line_.starts_with(kKey) || line_.size() == kKey.size()) fail(expected);
    return std::string(line_.substr(kKey.size()));
  }

  // A key and as many numbers as there are places.
  void numbers(const char* pattern, int64_t low, int64_t high,
               std::initializer_list<int64_t*> places) {
    const std::string expected = quoted(pattern);
    next(expected);
    const std::vector<std::string_view> parts = words();
    if (parts.size() != places.size() + 1 || !std::string_view(pattern).starts_with(parts[0]) ||
        pattern[parts[0].size()] != ' ') {
      fail(expected);
    }
    size_t index = 0;
    for (int64_t* place : places) *place = number(parts[++index], low, high, expected);
  }

  [[nodiscard]] TunedTiles tiles_of_line() const {
    const std::vector<std::string_view> parts = words();
    if (parts.size() != 7 || parts[0] != "tiles" || parts[1].empty() || parts[2].empty() ||
        (parts[4] != "forward" && parts[4] != "backward")) {
      fail(kTilesOrEnd);
    }
    TunedTiles tiles;
    tiles.of = {std::string(parts[1]), std::string(parts[2]),
                number(parts[3], 1, kMaxTile, kTilesOrEnd), parts[4] == "backward"};
    if (std::find(std::begin(kTunedDims), std::end(kTunedDims), tiles.of.dim) ==
        std::end(kTunedDims)) {
      fail(kTilesOrEnd);
    }
    tiles.queries = number(parts[5], 1, kMaxTile, kTilesOrEnd);
    tiles.keys = number(parts[6], 1, kMaxTile, kTilesOrEnd);
    tiles.line = number_;
    return tiles;
  }

  std::string_view rest_;
  const std::string& file_;
  std::string_view line_;
  int number_ = 0;
};

}  // namespace

void reject_tuning_line(const std::string& file, int line, const std::string& got,
                        const std::string& expected) {
  reject("tuning", std::string("line ") + std::to_string(line) + " of " + file, got, expected,
         "make it again with tilewise tune, or set TILEWISE_TUNING=none");
}

int64_t dim_class(int64_t head_dim, int64_t value_dim) noexcept {
  for (const int64_t dim : kTunedDims) {
    if (std::max(head_dim, value_dim) <= dim) return dim;
  }
  return 0;
}

const TunedTiles* Tuning::find(const TileClass& of) const noexcept {
  const auto found = std::find_if(tiles.begin(), tiles.end(),
                                  [&of](const TunedTiles& entry) { return entry.of == of; });
  return found == tiles.end() ? nullptr : &*found;
}

Tuning parse_tuning(const std::string& text, const std::string& file) {
  return Parser(text, file).parse();
}

std::string tuning_text(const Tuning& tuning) {
  const CacheSizes& caches = tuning.machine.caches;
  std::string text = std::string(kFirstLine) + "\ncpu " + tuning.machine.name + "\ncaches " +
                     std::to_string(caches.l1_data) + " " + std::to_string(caches.l2) + " " +
                     std::to_string(caches.l3) + "\nthreads " +
                     std::to_string(tuning.machine.threads) + "\n";
  for (const TunedTiles& tiles : tuning.tiles) {
    text += "tiles " + tiles.of.isa + " " + tiles.of.arithmetic + " " +
            std::to_string(tiles.of.dim) + (tiles.of.is_backward ? " backward " : " forward ") +
            std::to_string(tiles.queries) + " " + std::to_string(tiles.keys) + "\n";
  }
  return text + "end\n";
}

std::string machine_difference(const Machine& made_on, const Machine& here) {
  if (made_on.name != here.name) {
    return "made on " + quoted(made_on.name) + ", this is " + quoted(here.name);
  }
  const CacheSizes &a = made_on.caches, &b = here.caches;
  if (a.l1_data == b.l1_data && a.l2 == b.l2) return "";
  return "made with caches of " + std::to_string(a.l1_data) + " and " + std::to_string(a.l2) +
         " bytes, these have " + std::to_string(b.l1_data) + " and " + std::to_string(b.l2);
}

}  // namespace tilewise
