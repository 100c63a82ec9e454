// SPDX-License-Identifier: Apache-2.0
#include "base/message.h"

#include <gtest/gtest.h>

namespace tilewise {
namespace {

TEST(Message, NamesOperationArgumentGotExpectedAndHint) {
  EXPECT_EQ(message("make_plan", "kv_heads", "5", "a divisor of query_heads (8)", "repeat keys"),
            "make_plan: kv_heads is 5, expected a divisor of query_heads (8); repeat keys");
}

TEST(Message, LeavesOutAnEmptyHint) {
  EXPECT_EQ(message("forward", "value.shape[1]", "7", "8"),
            "forward: value.shape[1] is 7, expected 8");
}

}  // namespace
}  // namespace tilewise
