#include "server/web/framing.h"

#include <gtest/gtest.h>

#include <tuple>

namespace headlight {
namespace {

TEST(Framing, ALengthOrChunksOrNoBody) {
  EXPECT_FALSE(FramingOf({{"host", "x"}}).has_body());
  EXPECT_FALSE(FramingOf({{"content-length", "0"}}).has_body());
  const Framing sized = FramingOf({{"host", "x"}, {"content-length", "17"}});
  EXPECT_EQ(sized.status, 200);
  EXPECT_EQ(sized.length, 17);
  EXPECT_TRUE(sized.has_body());
  const Framing chunked = FramingOf({{"transfer-encoding", "Chunked"}});
  EXPECT_EQ(chunked.status, 200);
  EXPECT_EQ(chunked.length, -1);
  EXPECT_TRUE(chunked.has_body());
}

TEST(Framing, WhatTwoReadersMayReadAsTwoThingsIsRefused) {
  const WebHeaders refused[] = {{{"content-length", "2"}, {"content-length", "3"}},
                                {{"content-length", "2"}, {"content-length", "2"}},
                                {{"content-length", "2"}, {"transfer-encoding", "chunked"}},
                                {{"content-length", "2,2"}},
                                {{"content-length", "+2"}},
                                {{"content-length", "2 2"}},
                                {{"content-length", "-2"}},
                                {{"content-length", "0x2"}},
                                {{"content-length", "abc"}},
                                {{"content-length", ""}},
                                {{"content-length", "99999999999999999999"}},
                                {{"host", "a"}, {"host", "b"}}};
  for (const WebHeaders& headers : refused) EXPECT_EQ(FramingOf(headers).status, 400) << headers.front().second;
  const WebHeaders unknown[] = {{{"transfer-encoding", "xchunked"}},
                                {{"transfer-encoding", "gzip, chunked"}},
                                {{"transfer-encoding", "chunked"}, {"transfer-encoding", "chunked"}}};
  for (const WebHeaders& headers : unknown) EXPECT_EQ(FramingOf(headers).status, 501) << headers.front().second;
}

TEST(Framing, ATargetAsAProxySendsIt) {
  const std::tuple<const char*, const char*, const char*> targets[] = {{"/a/b", "", "/a/b"},
                                                                       {"http://host:80/a://b", "host:80", "/a://b"},
                                                                       {"HTTPS://host", "host", "/"},
                                                                       {"/http://host/a", "", "/http://host/a"},
                                                                       {"*", "", "*"}};
  for (const auto& [given, host, path] : targets) {
    const Target target = SplitTarget(given);
    EXPECT_EQ(target.host, host) << given;
    EXPECT_EQ(target.path, path) << given;
  }
}

}  // namespace
}  // namespace headlight
