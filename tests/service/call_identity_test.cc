#include "server/service/call_identity.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace headlight {
namespace {

constexpr char kTrace[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

TEST(CallIdentity, KeepsWhatTheCallerSent) {
  EXPECT_EQ(RequestIdFrom("order-7/a"), "order-7/a");
  EXPECT_EQ(RequestIdFrom(std::string(128, 'x')), std::string(128, 'x'));
  EXPECT_EQ(TraceparentFrom(kTrace), kTrace);
}

TEST(CallIdentity, MakesAnIdWhereNoneIsFine) {
  std::set<std::string> made;
  for (const std::string& sent : {std::string(), std::string(129, 'x'), std::string("a b"), std::string("a\nb"),
                                  std::string("\xc3\xa9"), std::string(1, '\0')}) {
    const std::string id = RequestIdFrom(sent);
    EXPECT_EQ(id.size(), 16U);
    EXPECT_EQ(id.find_first_not_of("0123456789abcdef"), std::string::npos) << id;
    made.insert(id);
  }
  EXPECT_EQ(made.size(), 6U);
}

TEST(CallIdentity, PassesOverWhatIsNoTraceparent) {
  EXPECT_EQ(TraceparentFrom(""), "");
  EXPECT_EQ(TraceparentFrom("00-00000000000000000000000000000000-b7ad6b7169203331-01"), "");
  EXPECT_EQ(TraceparentFrom("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"), "");
  for (const std::size_t at : {0, 2, 10, 35, 40, 52, 54}) {
    std::string spoilt = kTrace;
    spoilt[at] = 'X';
    EXPECT_EQ(TraceparentFrom(spoilt), "") << spoilt;
  }
  EXPECT_EQ(TraceparentFrom(std::string(kTrace) + "0"), "");
}

}  // namespace
}  // namespace headlight
