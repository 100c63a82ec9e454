// SPDX-License-Identifier: Apache-2.0
#include "base/environment.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tilewise/error.h"

namespace tilewise {
namespace {

// Sets a variable for the length of a scope and puts back what was there.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) had_ = true, old_ = old;
    value == nullptr ? unsetenv(name) : setenv(name, value, 1);
  }
  ~Variable() { had_ ? setenv(name_, old_.c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  bool had_ = false;
  std::string old_;
};

TEST(Environment, IsaIsTakenAsItStands) {
  const Variable unset("TILEWISE_ISA", nullptr);
  EXPECT_EQ(environment::isa(), "");
  const Variable set("TILEWISE_ISA", "avx2");
  EXPECT_EQ(environment::isa(), "avx2");
}

TEST(Environment, ThreadsAreAnIntegerFrom1To4096) {
  const Variable unset("TILEWISE_NUM_THREADS", nullptr);
  EXPECT_EQ(environment::num_threads(), 0);
  for (const auto& [text, threads] : {std::pair{"1", 1}, {"8", 8}, {"4096", 4096}, {"", 0}}) {
    const Variable set("TILEWISE_NUM_THREADS", text);
    EXPECT_EQ(environment::num_threads(), threads) << text;
  }
}

TEST(Environment, AnythingElseIsRefusedByName) {
  for (const char* text : {"0", "-1", "4097", "two", "2 ", " 2", "2.5", "+2", "99999999999999"}) {
    const Variable set("TILEWISE_NUM_THREADS", text);
    try {
      static_cast<void>(environment::num_threads());
      ADD_FAILURE() << "accepted \"" << text << '"';
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find("TILEWISE_NUM_THREADS is \"" + std::string(text)),
                std::string::npos)
          << error.what();
    }
  }
}

TEST(Environment, TuningIsTakenAsItStands) {
  const Variable unset("TILEWISE_TUNING", nullptr);
  EXPECT_EQ(environment::tuning(), "");
  const Variable set("TILEWISE_TUNING", "some/file");
  EXPECT_EQ(environment::tuning(), "some/file");
}

TEST(Environment, ConfigFolderIsAnAbsolutePathOrNothing) {
  const Variable home("HOME", "/home/me");
  const Variable unset("XDG_CONFIG_HOME", nullptr);
  EXPECT_EQ(environment::config_folder(), "/home/me/.config");
  const Variable set("XDG_CONFIG_HOME", "/etc/me");
  EXPECT_EQ(environment::config_folder(), "/etc/me");
  const Variable relative("XDG_CONFIG_HOME", "etc");
  EXPECT_EQ(environment::config_folder(), "/home/me/.config");
  const Variable homeless("HOME", nullptr);
  EXPECT_EQ(environment::config_folder(), "");
}

TEST(Environment, VerboseIsOnlyTheDigit1) {
  const Variable unset("TILEWISE_VERBOSE", nullptr);
  EXPECT_FALSE(environment::verbose());
  const Variable off("TILEWISE_VERBOSE", "0");
  EXPECT_FALSE(environment::verbose());
  const Variable on("TILEWISE_VERBOSE", "1");
  EXPECT_TRUE(environment::verbose());
}

}  // namespace
}  // namespace tilewise
