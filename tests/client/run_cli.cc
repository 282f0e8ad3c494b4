#include "tests/client/run_cli.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <thread>

extern char** environ;

namespace headlight::testing {
namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

void ToBegin(std::FILE* file) {
  if (std::fseek(file, 0, SEEK_SET) != 0) std::abort();
}

std::string ReadAll(std::FILE* file) {
  ToBegin(file);
  std::string text;
  char buffer[4096];
  for (std::size_t n = sizeof(buffer); n == sizeof(buffer);) {
    n = std::fread(buffer, 1, sizeof(buffer), file);
    text.append(buffer, n);
  }
  return text;
}

// The side of a terminal that a person would look at; reading it ends when the last writer is gone.
class Terminal {
 public:
  Terminal() : master_(posix_openpt(O_RDWR | O_NOCTTY)) {
    if (master_ < 0 || grantpt(master_) != 0 || unlockpt(master_) != 0) std::abort();
    slave_ = open(ptsname(master_), O_RDWR | O_NOCTTY);
    if (slave_ < 0) std::abort();
    winsize size{};
    size.ws_col = 120;
    size.ws_row = 50;
    ioctl(slave_, TIOCSWINSZ, &size);
    reader_ = std::thread([this] {
      char buffer[4096];
      for (ssize_t n = 0; (n = read(master_, buffer, sizeof(buffer))) > 0;) text_.append(buffer, n);
    });
  }

  int slave() const { return slave_; }

  std::string Finish() {
    close(slave_);
    reader_.join();
    close(master_);
    return text_;
  }

 private:
  int master_;
  int slave_;
  std::thread reader_;
  std::string text_;
};

std::vector<std::string> EnvironmentOf(const CliSetting& setting) {
  std::vector<std::string> environment = setting.environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string name(*entry, std::string_view(*entry).find('='));
    if (name != "HEADLIGHT_ADDRESS" && name != "NO_COLOR" && name != "TERM") environment.emplace_back(*entry);
  }
  return environment;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

int ExitCodeOf(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

CliRun RunCli(const std::vector<std::string>& arguments, const CliSetting& setting) {
  const File in(std::tmpfile());
  const File out(setting.output.empty() ? std::tmpfile() : std::fopen(setting.output.c_str(), "w+"));
  const File err(std::tmpfile());
  std::fwrite(setting.input.data(), 1, setting.input.size(), in.get());
  ToBegin(in.get());
  std::unique_ptr<Terminal> terminal = setting.terminal ? std::make_unique<Terminal>() : nullptr;

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fileno(in.get()), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, terminal ? terminal->slave() : fileno(out.get()), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, fileno(err.get()), STDERR_FILENO);
  std::vector<std::string> words = {HEADLIGHT_CLI};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> environment = EnvironmentOf(setting);
  pid_t child = -1;
  CliRun run;
  if (posix_spawn(&child, HEADLIGHT_CLI, &actions, nullptr, Pointers(words).data(), Pointers(environment).data()) ==
      0) {
    run.exit_code = ExitCodeOf(child);
  }
  posix_spawn_file_actions_destroy(&actions);
  if (setting.output.empty()) run.out = terminal ? terminal->Finish() : ReadAll(out.get());
  run.err = ReadAll(err.get());
  return run;
}

}  // namespace headlight::testing
