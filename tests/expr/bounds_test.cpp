// SPDX-License-Identifier: Apache-2.0
#include "expr/bounds.h"

#include <gtest/gtest.h>

#include <string>

#include "expr/mask_builder.h"
#include "tilewise/error.h"

namespace tilewise::expr {
namespace {

std::string refusal(const Expression& expression, const Values& values, const Domain& domain) {
  try {
    check_bound(expression, values, domain, "schedule");
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "";
}

const Domain kDomain{{0, 1}, {0, 3}, {0, 99, 0, 199}};

TEST(CheckBound, ADivisorThatMayBeZero) {
  MaskBuilder m;
  EXPECT_EQ(refusal(m.expression(m.q() / (m.k() - 5) == 3), m.values, kDomain),
            "schedule: divisor of // is -5 to 194, expected no range that contains 0; keep it away "
            "from 0 with max(1, ...)");
  EXPECT_EQ(refusal(m.expression(m.q() % m.h() == 3), m.values, kDomain),
            "schedule: divisor of % is 0 to 3, expected no range that contains 0; keep it away "
            "from 0 with max(1, ...)");
  EXPECT_EQ(refusal(m.expression(m.q() % (m.h() + 1) == 3), m.values, kDomain), "");
  EXPECT_EQ(refusal(m.expression(m.q() / max(m.k(), 1) == 3), m.values, kDomain), "");
  EXPECT_EQ(refusal(m.expression(m.q() / m.integer(-2) == 3), m.values, kDomain), "");
}

TEST(CheckBound, AnIndexThatMayLeaveItsTable) {
  MaskBuilder m;
  const auto line = int_table(std::vector<int32_t>(100, 1));
  const auto plane = int_table(std::vector<int32_t>(4 * 10, 1), {4, 10});
  const auto on_line = [&](Term i) { return m.expression(m.look_up("line", line, {i}) == 0); };
  const auto on_plane = [&](Term i, Term j) {
    return m.expression(m.look_up("plane", plane, {i, j}) == 0);
  };
  EXPECT_EQ(refusal(on_line(m.q()), m.values, kDomain), "");
  EXPECT_EQ(refusal(on_line(m.k()), m.values, kDomain),
            "schedule: index 0 of table line is 0 to 199, expected 0 to 99; keep it inside with "
            "min and max, or bind a larger table");
  EXPECT_NE(refusal(on_line(m.q() - 1), m.values, kDomain).find("is -1 to 98"), std::string::npos);
  EXPECT_NE(refusal(on_line(m.q() + 1), m.values, kDomain).find("is 1 to 100"), std::string::npos);
  EXPECT_EQ(refusal(on_line(clamp(m.k() - 7, 0, 99)), m.values, kDomain), "");
  EXPECT_EQ(refusal(on_plane(m.h(), m.q() / 10), m.values, kDomain), "");
  EXPECT_NE(refusal(on_plane(m.h(), m.q() / 9), m.values, kDomain).find("index 1 of table plane"),
            std::string::npos);
  EXPECT_NE(refusal(on_line(m.q() * kMaxInt), m.values, kDomain).find("it may overflow"),
            std::string::npos);
}

TEST(CheckBound, RealTablesHaveTheirLastAxes) {
  auto graph = std::make_shared<Graph>();
  const int32_t index[2] = {graph->variable(Variable::kHead), graph->variable(Variable::kKey)};
  const int32_t root = graph->lookup("bias", Type::kReal, index, 2);
  Values values;
  values.symbols.resize(1);
  values.symbols[0].real_table.shape[0] = values.symbols[0].real_table.shape[1] = 1;
  values.symbols[0].real_table.shape[2] = 4;
  values.symbols[0].real_table.shape[3] = 200;
  EXPECT_EQ(refusal({graph, root}, values, kDomain), "");
  values.symbols[0].real_table.shape[2] = 3;
  EXPECT_NE(refusal({graph, root}, values, kDomain).find("index 0 of table bias is 0 to 3"),
            std::string::npos);
}

// What the root does not depend on is not asked.
TEST(CheckBound, OnlyWhatIsUsed) {
  MaskBuilder m;
  (void)(m.q() / m.h());
  EXPECT_EQ(refusal(m.expression(m.q() >= m.k()), m.values, kDomain), "");
}

// Without pairs nothing is evaluated.
TEST(CheckBound, NoPairs) {
  MaskBuilder m;
  const Domain empty{{0, 0}, {0, 0}, {0, -1, 0, 199}};
  const Expression mask = m.expression(m.q() / m.integer(0) == m.q() * kMaxInt);
  EXPECT_EQ(refusal(mask, m.values, empty), "");
  EXPECT_NE(refusal(mask, m.values, kDomain), "");
  EXPECT_TRUE(fits_32_bits(mask, m.values, empty));
}

TEST(Fits32Bits, CountsEveryInteger) {
  MaskBuilder m;
  const auto fits = [&](Term mask) { return fits_32_bits(m.expression(mask), m.values, kDomain); };
  EXPECT_TRUE(fits(m.q() >= m.k()));
  EXPECT_TRUE(fits(m.q() + ((int64_t{1} << 31) - 100) > m.k()));  // 2^31 - 1 at most
  EXPECT_FALSE(fits(m.q() + ((int64_t{1} << 31) - 99) > m.k()));
  EXPECT_TRUE(fits(m.q() + -(int64_t{1} << 31) < m.k()));
  EXPECT_FALSE(fits(m.q() + (-(int64_t{1} << 31) - 1) < m.k()));
  EXPECT_FALSE(fits(m.q() - (int64_t{1} << 31) < m.k()));  // the constant does not fit
  EXPECT_FALSE(fits((m.q() * (int64_t{1} << 40)) / (int64_t{1} << 40) == m.k()));
  EXPECT_FALSE(fits(m.q() * kMaxInt == m.k()));
}

}  // namespace
}  // namespace tilewise::expr
