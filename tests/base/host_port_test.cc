#include "server/base/host_port.h"

#include <gtest/gtest.h>

#include <string>

namespace headlight {
namespace {

struct Good {
  const char* text;
  const char* host;
  int port;
};

class ParsesHostPort : public testing::TestWithParam<Good> {};

TEST_P(ParsesHostPort, AndWritesItBack) {
  const absl::StatusOr<HostPort> address = ParseHostPort(GetParam().text);
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->host, GetParam().host);
  EXPECT_EQ(address->port, GetParam().port);
  EXPECT_EQ(ToString(*address), GetParam().text);
}

INSTANTIATE_TEST_SUITE_P(
    HostPort, ParsesHostPort,
    testing::Values(Good{"127.0.0.1:0", "127.0.0.1", 0}, Good{"0.0.0.0:65535", "0.0.0.0", 65535},
                    Good{"[::1]:9090", "::1", 9090}, Good{"[::]:1", "::", 1},
                    Good{"[2001:db8::7]:80", "2001:db8::7", 80}, Good{"[::ffff:10.0.0.1]:80", "::ffff:10.0.0.1", 80},
                    Good{"localhost:8080", "localhost", 8080},
                    Good{"head-light.my_ns.svc.cluster.local.:443", "head-light.my_ns.svc.cluster.local.", 443},
                    Good{"3com.example:80", "3com.example", 80}));

struct Bad {
  const char* text;
  const char* says;
};

class RefusesHostPort : public testing::TestWithParam<Bad> {};

TEST_P(RefusesHostPort, WithTheCause) {
  const absl::Status status = ParseHostPort(GetParam().text).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find(GetParam().says), std::string::npos) << status;
}

INSTANTIATE_TEST_SUITE_P(
    HostPort, RefusesHostPort,
    testing::Values(Bad{"", "port is missing"}, Bad{"localhost", "port is missing"}, Bad{"localhost:", "0 to 65535"},
                    Bad{"localhost:65536", "0 to 65535"}, Bad{"localhost:99999999999", "0 to 65535"},
                    Bad{"localhost:-1", "0 to 65535"}, Bad{"localhost:+1", "0 to 65535"},
                    Bad{"localhost: 1", "0 to 65535"}, Bad{"localhost:http", "0 to 65535"},
                    Bad{":80", "every interface"}, Bad{"::1:80", "brackets, as in"}, Bad{"[]:80", "IPv6"},
                    Bad{"[::1:80", "IPv6"}, Bad{"[::g]:80", "IPv6"}, Bad{"[127.0.0.1]:80", "IPv6"},
                    Bad{"[::1]", "0 to 65535"}, Bad{"300.0.0.1:80", "or a name"}, Bad{"1.2.3:80", "or a name"},
                    Bad{"*:80", "or a name"}, Bad{"a b:80", "or a name"}, Bad{"a..b:80", "or a name"},
                    Bad{".:80", "or a name"}, Bad{"-a:80", "or a name"}, Bad{"a-:80", "or a name"}));

TEST(HostPort, BoundsTheLengthOfNames) {
  const std::string label(63, 'a');
  const std::string most = label + "." + label + "." + label + "." + std::string(61, 'a');
  EXPECT_TRUE(ParseHostPort(most + ":1").ok());
  EXPECT_FALSE(ParseHostPort(most + "a:1").ok());
  EXPECT_FALSE(ParseHostPort(label + "a:1").ok());
}

}  // namespace
}  // namespace headlight
