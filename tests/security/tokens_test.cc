#include "server/security/tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace headlight {
namespace {

using ::testing::HasSubstr;

constexpr char kFirst[] = "first-token-of-it";
constexpr char kSecond[] = "c2Vjb25kLXRva2Vu/+=";

TEST(TokenSet, HoldsWhatStandsInIt) {
  const auto tokens = TokenSet::Parse(std::string("# a comment\r\n") + kFirst + "\r\n\n \t" + kSecond + " ");
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_TRUE(tokens->Holds(kFirst));
  EXPECT_TRUE(tokens->Holds(kSecond));
  for (const std::string& other : {std::string(), std::string("# a comment"), std::string(kFirst) + "x",
                                   std::string(kFirst).substr(1), std::string(kFirst) + '\0', std::string(9000, 'x')}) {
    EXPECT_FALSE(tokens->Holds(other)) << other;
  }
}

TEST(TokenSet, RefusesWhatIsNoTokenByItsLineAndWithoutRepeatingIt) {
  for (const std::string bad :
       {"too-short-by-one", "with a space inside it", "with-\x01-control-character", "naïve-token-of-many"}) {
    const std::string text = bad == "too-short-by-one" ? bad.substr(1) : bad;
    const absl::Status status = TokenSet::Parse(std::string(kFirst) + "\n" + text + "\n").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("line 2"));
    EXPECT_THAT(std::string(status.message()), testing::Not(HasSubstr(text)));
  }
}

TEST(TokenSet, IsNeverEmpty) {
  for (const char* text : {"", "\n\n", "# nothing\n"}) EXPECT_FALSE(TokenSet::Parse(text).ok()) << text;
}

}  // namespace
}  // namespace headlight
