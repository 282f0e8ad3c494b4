#include "server/security/reloaded.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "absl/strings/str_join.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;

class ReloadedTest : public testing::Test {
 protected:
  ~ReloadedTest() override {
    for (const std::string& path : paths_) std::remove(path.c_str());
  }

  static void Write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

  // What the files hold, side by side; "bad" in one of them is refused.
  std::unique_ptr<Reloaded<std::string>> Load() {
    auto loaded = Reloaded<std::string>::Load(paths_, [](const std::vector<std::string>& contents) {
      const std::string all = absl::StrJoin(contents, "+");
      return all.find("bad") == std::string::npos ? absl::StatusOr<std::string>(all)
                                                  : absl::InvalidArgumentError("it is bad");
    });
    status_ = loaded.status();
    return loaded.ok() ? *std::move(loaded) : nullptr;
  }

  const std::string stem_ = testing::TempDir() + "reloaded_test." + std::to_string(getpid());
  const std::vector<std::string> paths_ = {stem_ + ".a", stem_ + ".b"};
  absl::Status status_;
};

TEST_F(ReloadedTest, TakesChangesThatStandStill) {
  Write(paths_[0], "1");
  Write(paths_[1], "1");
  const auto files = Load();
  ASSERT_NE(files, nullptr) << status_;
  const auto before = files->current();
  EXPECT_EQ(*files->Reload(), false);
  Write(paths_[0], "2");
  EXPECT_EQ(*files->Reload(), false);
  Write(paths_[1], "2");
  EXPECT_EQ(*files->Reload(), false);
  EXPECT_EQ(*files->current(), "1+1");
  EXPECT_EQ(*files->Reload(), true);
  EXPECT_EQ(*files->current(), "2+2");
  EXPECT_EQ(*before, "1+1");
  for (int look = 0; look < 3; ++look) EXPECT_EQ(*files->Reload(), false);
}

TEST_F(ReloadedTest, KeepsTheOldValueAndTellsOnce) {
  Write(paths_[0], "1");
  Write(paths_[1], "1");
  const auto files = Load();
  ASSERT_NE(files, nullptr) << status_;
  Write(paths_[1], "bad");
  EXPECT_EQ(*files->Reload(), false);
  EXPECT_THAT(std::string(files->Reload().status().message()), HasSubstr("it is bad"));
  EXPECT_EQ(*files->Reload(), false);
  std::remove(paths_[0].c_str());
  EXPECT_EQ(*files->Reload(), false);
  EXPECT_THAT(std::string(files->Reload().status().message()), HasSubstr("cannot read " + paths_[0]));
  EXPECT_EQ(*files->Reload(), false);
  EXPECT_EQ(*files->current(), "1+1");
  Write(paths_[0], "3");
  Write(paths_[1], "3");
  EXPECT_EQ(*files->Reload(), false);
  EXPECT_EQ(*files->Reload(), true);
  EXPECT_EQ(*files->current(), "3+3");
}

TEST_F(ReloadedTest, RefusesToBeginWithoutAGoodValue) {
  EXPECT_EQ(Load(), nullptr);
  EXPECT_EQ(status_.code(), absl::StatusCode::kUnavailable);
  Write(paths_[0], "bad");
  Write(paths_[1], "");
  EXPECT_EQ(Load(), nullptr);
  EXPECT_EQ(status_.code(), absl::StatusCode::kInvalidArgument);
}

TEST(ReadFiles, TakesNeitherDirectoriesNorWhatIsTooLarge) {
  EXPECT_THAT(std::string(ReadFiles({testing::TempDir()}).status().message()), HasSubstr("not a regular file"));
  const std::string pipe = testing::TempDir() + "/headlight-pipe." + std::to_string(getpid());
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  // Nobody writes: a reader that opens it would wait for ever.
  EXPECT_THAT(std::string(ReadFiles({pipe}).status().message()), HasSubstr("not a regular file"));
  std::remove(pipe.c_str());
  const std::string path = testing::TempDir() + "reloaded_test.large." + std::to_string(getpid());
  std::ofstream(path) << std::string(1 << 20, 'x');
  EXPECT_EQ(ReadFiles({path})->front().size(), std::size_t{1} << 20);
  std::ofstream(path, std::ios::app) << "x";
  EXPECT_THAT(std::string(ReadFiles({path}).status().message()), HasSubstr("larger than 1 MiB"));
  std::remove(path.c_str());
}

}  // namespace
}  // namespace headlight
