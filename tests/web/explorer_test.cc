#include "server/web/explorer.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "server/web/explorer_files.h"

namespace headlight {
namespace {

TEST(Explorer, HasTheFilesOfTheProgram) {
  const Explorer explorer("");
  EXPECT_FALSE(ExplorerFiles().empty());
  for (const ExplorerFile& file : ExplorerFiles()) {
    const auto found = explorer.Find(std::string("/") + file.name);
    ASSERT_TRUE(found.has_value()) << file.name;
    EXPECT_EQ(found->bytes.size(), static_cast<std::size_t>(file.end - file.begin)) << file.name;
  }
  const auto page = explorer.Find("/");
  ASSERT_TRUE(page.has_value());
  EXPECT_EQ(page->type, "text/html; charset=utf-8");
  EXPECT_EQ(page->bytes.rfind("<!doctype html>", 0), 0U);
  for (const char* path : {"", "index.html", "/none.js", "//index.html", "/index.html/", "/INDEX.HTML"}) {
    EXPECT_FALSE(explorer.Find(path).has_value()) << path;
  }
}

class ExplorerFolder : public ::testing::Test {
 protected:
  ExplorerFolder() {
    char name[] = "/tmp/headlight-explorer-XXXXXX";
    path_ = mkdtemp(name);
    Write("secret.js", "secret");
    std::filesystem::create_directories(path_ / "root/sub");
  }
  ~ExplorerFolder() override { std::filesystem::remove_all(path_); }
  void Write(const std::string& name, const std::string& text) const { std::ofstream(path_ / name) << text; }

  std::filesystem::path path_;
};

TEST_F(ExplorerFolder, ReadsItAnewAndNothingOutside) {
  Write("root/index.html", "one");
  Write("root/sub/a-b_c.js", "let x;");
  Write("root/.hidden.js", "hidden");
  Write("root/notes.txt", "no page");
  std::filesystem::create_symlink(path_ / "secret.js", path_ / "root/link.js");
  std::filesystem::create_directories(path_ / "root/folder.html");
  ASSERT_EQ(mkfifo((path_ / "root/pipe.js").c_str(), 0600), 0);
  const Explorer explorer((path_ / "root").string());
  EXPECT_EQ(explorer.Find("/")->bytes, "one");
  Write("root/index.html", "two");
  EXPECT_EQ(explorer.Find("/")->bytes, "two");
  EXPECT_EQ(explorer.Find("/sub/a-b_c.js")->type, "text/javascript; charset=utf-8");
  for (const char* path :
       {"/../secret.js", "/sub/../../secret.js", "/sub/..", "/%2e%2e/secret.js", "/.hidden.js", "/notes.txt", "/sub",
        "/sub/", "/a/b/c.js", "/..//secret.js", "/link.js", "/folder.html", "/pipe.js"}) {
    EXPECT_FALSE(explorer.Find(path).has_value()) << path;
  }
}

}  // namespace
}  // namespace headlight
