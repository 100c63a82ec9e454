// SPDX-License-Identifier: Apache-2.0
#include "schedule/tuning.h"

#include <gtest/gtest.h>

#include "tilewise/error.h"

namespace tilewise {
namespace {

constexpr const char* kText =
    "tilewise-tuning 1\n"
    "cpu Some CPU (R) 9000 @ 3.0 GHz\n"
    "caches 32768 1048576 0\n"
    "threads 8\n"
    "tiles avx2 fp32 64 forward 96 256\n"
    "tiles avx2 fp32 64 backward 128 192\n"
    "tiles avx512bf16 bf16 256 forward 48 8\n"
    "end\n";

std::string error_of(const std::string& text) {
  try {
    (void)parse_tuning(text, "/some/file");
    return "";
  } catch (const InvalidArgument& error) {
    return error.what();
  }
}

std::string with(std::string text, const std::string& part, const std::string& other) {
  const size_t at = text.find(part);
  return at == std::string::npos ? "no such part" : text.replace(at, part.size(), other);
}

TEST(Tuning, IsReadAsItStands) {
  const Tuning tuning = parse_tuning(kText, "file");
  EXPECT_EQ(tuning.machine.name, "Some CPU (R) 9000 @ 3.0 GHz");
  EXPECT_EQ(tuning.machine.caches.l1_data, 32768);
  EXPECT_EQ(tuning.machine.caches.l2, 1048576);
  EXPECT_EQ(tuning.machine.caches.l3, 0);
  EXPECT_EQ(tuning.machine.threads, 8);
  ASSERT_EQ(tuning.tiles.size(), 3u);
  const TunedTiles* backward = tuning.find({"avx2", "fp32", 64, true});
  ASSERT_NE(backward, nullptr);
  EXPECT_EQ(backward->queries, 128);
  EXPECT_EQ(backward->keys, 192);
  EXPECT_EQ(backward->line, 6);
  EXPECT_EQ(tuning.find({"avx2", "fp32", 128, true}), nullptr);
  EXPECT_EQ(tuning.find({"avx2", "bf16", 64, true}), nullptr);
}

TEST(Tuning, IsWrittenAsItIsRead) {
  EXPECT_EQ(tuning_text(parse_tuning(kText, "file")), kText);
  Tuning empty;
  empty.machine.name = "x";
  EXPECT_EQ(tuning_text(empty), "tilewise-tuning 1\ncpu x\ncaches 0 0 0\nthreads 1\nend\n");
}

TEST(Tuning, ErrorsNameFileLineAndExpectation) {
  EXPECT_EQ(error_of(with(kText, "tuning 1", "tuning 2")),
            "tuning: line 1 of /some/file is \"tilewise-tuning 2\", expected \"tilewise-tuning "
            "1\"; make it again with tilewise tune, or set TILEWISE_TUNING=none");
  const std::string three = error_of(with(kText, "32768", "32k"));
  EXPECT_NE(three.find("line 3 of /some/file is \"caches 32k"), std::string::npos) << three;
  EXPECT_NE(three.find("expected \"caches <L1> <L2> <L3>\", numbers from 0"), std::string::npos);
  const std::string second = error_of(with(kText, "backward", "forward"));
  EXPECT_NE(second.find("line 6"), std::string::npos) << second;
  EXPECT_NE(second.find("no second line for the class of line 5"), std::string::npos) << second;
  EXPECT_NE(error_of(std::string(kText) + "x").find("line 9"), std::string::npos);
  EXPECT_NE(error_of(std::string(kText) + "x\n").find("nothing after \"end\""), std::string::npos);
  EXPECT_NE(error_of("").find("line 1 of /some/file is missing"), std::string::npos);
}

TEST(Tuning, AnythingElseIsRefused) {
  const std::pair<const char*, const char*> changes[] = {
      {"cpu Some", "cpuSome"},
      {"cpu Some CPU (R) 9000 @ 3.0 GHz", "cpu "},
      {"threads 8", "threads 0"},
      {"threads 8", "threads"},
      {"threads 8", "threads 8 8"},
      {"threads 8", "threads  8"},
      {"threads 8", "threads -8"},
      {"threads 8", "threads +8"},
      {"threads 8", "threads 8.0"},
      {"threads 8", "threads 08"},
      {"threads 8", "threads 99999999999999999999"},
      {"threads 8", "thread 8"},
      {"threads 8\n", "threads 8\r\n"},
      {"threads 8\n", "threads 8 \n"},
      {"threads 8\n", "\n"},
      {"caches 32768", "caches -1"},
      {"caches 32768", "cpu 32768"},
      {" 96 256", " 0 256"},
      {" 96 256", " 96 65537"},
      {" 96 256", " 96"},
      {" 96 256", " 96 256 1"},
      {" 96 256", " 96 2 56"},
      {" 64 forward", " 63 forward"},
      {" 64 forward", " 64 sideways"},
      {"avx2 fp32", "avx2  "},
      {"tiles avx2", "tile avx2"},
      {"end\n", "end"},
      {"end\n", ""},
      {"end\n", "end \n"},
  };
  for (const auto& [part, other] : changes) {
    EXPECT_NE(error_of(with(kText, part, other)), "") << part << " -> " << other;
  }
}

TEST(Tuning, EveryTruncationIsRefused) {
  const std::string text = kText;
  for (size_t size = 0; size < text.size(); ++size) {
    EXPECT_NE(error_of(text.substr(0, size)), "") << size;
  }
}

// A changed byte is refused, or it is another file of the format.
TEST(Tuning, EveryChangedByteIsRefusedOrReadExactly) {
  const std::string text = kText;
  int refused = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string changed = text;
      changed[at] = static_cast<char>(byte);
      try {
        const Tuning tuning = parse_tuning(changed, "file");
        EXPECT_EQ(tuning_text(tuning), changed);
      } catch (const InvalidArgument& error) {
        ++refused;
        for (const char* c = error.what(); *c != '\0'; ++c) EXPECT_GE(*c, ' ');
      }
    }
  }
  EXPECT_GT(refused, 20000);
}

TEST(Tuning, BelongsToACpuAndItsPrivateCaches) {
  const Machine made = parse_tuning(kText, "file").machine;
  Machine here = made;
  EXPECT_EQ(machine_difference(made, here), "");
  here.threads = 2;
  here.caches.l3 = 1 << 25;
  EXPECT_EQ(machine_difference(made, here), "") << "tiles are those of one core";
  here.caches.l2 = 1 << 19;
  EXPECT_EQ(machine_difference(made, here),
            "made with caches of 32768 and 1048576 bytes, these have 32768 and 524288");
  here.name = "Other";
  EXPECT_EQ(machine_difference(made, here),
            "made on \"Some CPU (R) 9000 @ 3.0 GHz\", this is \"Other\"");
}

TEST(Tuning, ClassesHoldTheLongerOfTheDims) {
  EXPECT_EQ(dim_class(1, 1), 64);
  EXPECT_EQ(dim_class(64, 64), 64);
  EXPECT_EQ(dim_class(64, 65), 128);
  EXPECT_EQ(dim_class(256, 1), 256);
  EXPECT_EQ(dim_class(257, 1), 0);
}

}  // namespace
}  // namespace tilewise
