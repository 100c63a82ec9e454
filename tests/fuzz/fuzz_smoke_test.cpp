// SPDX-License-Identifier: Apache-2.0
// The fuzz targets in every test run: the corpus that libFuzzer found, and deterministic mutations
// of it. The sanitizer builds run the same.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/random.h"
#include "fuzz/fuzz_targets.h"
#include "io/damaged_files.h"
#include "io/temporary_directory.h"

namespace tilewise::fuzz {
namespace {

constexpr int kMutations = 20'000;

std::vector<std::string> read_corpus(const std::string& name) {
  std::vector<std::string> paths;
  for (const auto& entry :
       std::filesystem::directory_iterator(TILEWISE_SOURCE_DIR "/tests/fuzz/corpus/" + name)) {
    paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());  // the order of a directory is not deterministic
  std::vector<std::string> corpus;
  for (const std::string& path : paths) corpus.push_back(io::read_bytes(path));
  return corpus;
}

size_t position(Random& random, const std::string& bytes) {
  return static_cast<size_t>(random.between(0, static_cast<int64_t>(bytes.size()) - 1));
}

std::string mutate(std::string bytes, const std::string& other, Random& random) {
  for (int64_t changes = random.between(1, 4); changes > 0; --changes) {
    if (bytes.empty()) bytes.push_back('0');
    const size_t at = position(random, bytes);
    switch (random.between(0, 5)) {
      case 0:
        bytes[at] = static_cast<char>(random.bits());
        break;
      case 1:
        bytes[at] = static_cast<char>(bytes[at] ^ 1 << random.between(0, 7));
        break;
      case 2:
        bytes.insert(at, 1, static_cast<char>(random.bits()));
        break;
      case 3:
        bytes.erase(at, static_cast<size_t>(random.between(1, 8)));
        break;
      case 4:
        bytes.insert(at, bytes, position(random, bytes), 16);
        break;
      case 5:
        bytes = bytes.substr(0, at) + other.substr(std::min(at, other.size()));
        break;
    }
  }
  return bytes;
}

// Reaching the end is the result: a crash, an abort or an exception that escapes fails.
void replay_and_mutate(const std::vector<std::string>& corpus,
                       const std::function<void(const uint8_t*, size_t)>& target) {
  ASSERT_FALSE(corpus.empty());
  const auto run = [&target](const std::string& bytes) {
    target(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  };
  for (const std::string& bytes : corpus) run(bytes);
  Random random(20261124);
  const auto last = static_cast<int64_t>(corpus.size()) - 1;
  for (int i = 0; i < kMutations; ++i) {
    const std::string& one = corpus[static_cast<size_t>(random.between(0, last))];
    const std::string& other = corpus[static_cast<size_t>(random.between(0, last))];
    run(mutate(one, other, random));
  }
}

TEST(FuzzSmoke, Safetensors) {
  std::vector<std::string> corpus = read_corpus("safetensors");
  for (const io::Damage& damage : io::damages()) corpus.push_back(damage.file);
  replay_and_mutate(corpus, fuzz_safetensors);
}

TEST(FuzzSmoke, Problem) { replay_and_mutate(read_corpus("problem"), fuzz_problem); }

TEST(FuzzSmoke, Expression) { replay_and_mutate(read_corpus("expression"), fuzz_expression); }

}  // namespace
}  // namespace tilewise::fuzz
