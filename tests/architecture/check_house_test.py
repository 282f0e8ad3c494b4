#!/usr/bin/env python3
"""Seeds a violation of each rule of check_house.py in a tree of its own and sees it caught; a sound tree passes."""

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import check_house  # noqa: E402


def function(lines, parameters="", head="int F"):
    """A function of that many lines, braces included."""
    return f"{head}({parameters}) {{\n" + "  G();\n" * (lines - 2) + "}\n"


def parameters(count):
    return ", ".join(f"int p{i}" for i in range(count))


def found(code):
    """(name, lines, parameters) of each function in C++ text."""
    tokens, _ = check_house.tokenize(code)
    return [(name, last - first + 1, count) for name, first, last, count in check_house.Functions(tokens).found]


class Tree(unittest.TestCase):
    def problems(self, files):
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                target = Path(root, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
            return check_house.check(Path(root))[0]

    def assert_sound(self, files):
        self.assertEqual(self.problems(files), [])

    def assert_caught(self, files, *words):
        problems = self.problems(files)
        self.assertEqual(len(problems), 1, problems)
        for word in words:
            self.assertIn(word, problems[0])


class Limits(Tree):
    def test_lines_of_a_function(self):
        self.assert_sound({"server/base/a.cc": function(70)})
        self.assert_caught({"server/base/a.cc": "\n\n" + function(71)}, "server/base/a.cc:3:", "F has 71 lines")
        self.assert_caught({"tests/base/a_test.cc": function(71, "Suite, Name", "TEST")}, "TEST has 71 lines")

    def test_lines_of_a_kernel(self):
        self.assert_sound({"server/kernels/reference/a.cc": function(110)})
        self.assert_caught({"server/kernels/a.cc": function(111)}, "111 lines, the limit is 110")

    def test_parameters(self):
        self.assert_sound({"client/cpp/a.h": function(3, parameters(7))})
        self.assert_caught({"client/cpp/a.h": function(3, parameters(8))}, "F has 8 parameters")

    def test_lines_of_a_file(self):
        self.assert_sound({"server/base/a.cc": "\n" * 500, "server/base/a.h": "\n" * 250})
        self.assert_caught({"server/base/a.cc": "\n" * 501}, "501 lines, the limit is 500")
        self.assert_caught({"server/base/a.h": "\n" * 251}, "251 lines, the limit is 250")

    def test_short_files(self):
        a = {"server/base/a.cc": ""}
        self.assert_sound({**a, "CMakeLists.txt": "\n" * 119, "server/main.cc": "\n" * 59})
        self.assert_caught({**a, "CMakeLists.txt": "\n" * 120}, "must stay under 120")
        self.assert_caught({**a, "server/main.cc": "\n" * 60}, "must stay under 60")

    def test_what_cannot_be_read(self):
        self.assert_caught({"server/base/a.cc": "void F() { if (x) {\n}\n"}, "brackets do not match")
        self.assert_caught({"server/base/a.cc": "}\nvoid F() {}\n"}, "brackets do not match")
        self.assert_caught({"server/base/a.cc": "void F() { (] }\n"}, "brackets do not match")

    def test_other_names_for_sources(self):
        for suffix in ("cpp", "hpp", "inc"):
            files = {"server/base/a.cc": "", f"server/base/a.{suffix}": function(500)}
            self.assert_caught(files, f"a.{suffix}", "are named .cc or .h")

    def test_an_empty_tree(self):
        self.assert_caught({"README.md": ""}, "no source")
        self.assert_caught({"build/server/a.cc": "", "client/explorer/node_modules/x/a.cc": ""}, "no source")


# What each room of the architecture may include beside itself.
MAY = {
    "base": [],
    "problem": ["base"],
    "masks": ["base", "problem"],
    "plan": ["base", "problem", "masks"],
    "admission": ["base", "plan"],
    "positions": ["base", "kernels"],
    "kernels": ["base"],
    "engine": ["base", "problem", "masks", "plan", "positions", "kernels", "admission"],
    "analysis": ["base", "problem", "engine", "kernels"],
    "layers": ["base", "problem"],
    "telemetry": ["base"],
    "security": ["base"],
    "web": ["base", "security"],
}
MAY["service"] = list(MAY)
HEADERS = {
    "protobuf": ["headlight/v1/tensor.pb.h", "google/protobuf/message.h", "google/rpc/error_details.pb.h"],
    "gRPC": ["grpcpp/grpcpp.h", "grpc/grpc.h", "headlight/v1/attention_service.grpc.pb.h"],
    "Prometheus": ["prometheus/registry.h"],
    "Highway": ["hwy/highway.h"],
    "Eigen": ["Eigen/Core"],
    "oneDNN": ["oneapi/dnnl/dnnl.hpp", "dnnl.hpp"],
    "OpenMP": ["omp.h"],
    "spdlog": ["spdlog/spdlog.h"],
    "CLI11": ["CLI/CLI.hpp"],
    "nlohmann": ["nlohmann/json.hpp"],
    "httplib": ["httplib.h"],
}
PACKAGES = {  # of the files that may include any
    "server/analysis/a.cc": ["Eigen"],
    "server/kernels/a.cc": ["Highway"],
    "server/kernels/matmul.cc": ["Highway", "oneDNN", "OpenMP"],
    "server/telemetry/a.cc": ["Prometheus", "nlohmann"],
    "server/layers/a.cc": ["nlohmann", "OpenSSL"],
    "server/web/a.cc": ["httplib", "protobuf", "gRPC", "nlohmann"],
    "server/service/a.cc": ["protobuf", "gRPC", "spdlog"],
    "server/service/flags.cc": ["protobuf", "gRPC", "spdlog", "CLI11"],
    "client/cli/a.cc": ["protobuf", "gRPC", "CLI11", "nlohmann"],
}


class Includes(Tree):
    def test_rooms(self):
        for room, may in MAY.items():
            for other in MAY:
                files = {f"server/{room}/a.cc": f'#include "server/{other}/b.h"\n'}
                with self.subTest(room=room, other=other):
                    if other == room or other in may:
                        self.assert_sound(files)
                    else:
                        self.assert_caught(files, f"server/{room}/a.cc:1: may not include server/{other}/b.h")

    def test_packages(self):
        paths = set(PACKAGES) | {f"server/{room}/a.cc" for room in MAY} | {"server/kernels/matmul.h"}
        for path in sorted(paths):
            allowed = PACKAGES.get(path, ["Highway"] if "/kernels/" in path else [])
            for package, headers in HEADERS.items():
                for header in headers:
                    for literal in (f"<{header}>", f'"{header}"'):
                        with self.subTest(path=path, include=literal):
                            files = {path: f"#include {literal}\n"}
                            if package in allowed:
                                self.assert_sound(files)
                            else:
                                self.assert_caught(files, f"{path}:1:", package)

    def test_main_and_client(self):
        self.assert_sound({"server/main.cc": '#include "server/service/server.h"\n#include "server/base/a.h"\n'})
        self.assert_caught({"server/main.cc": '#include "server/engine/a.h"\n'}, "may not include")
        self.assert_sound({"client/cli/a.cc": '#include "client/cpp/client.h"\n'})
        self.assert_caught({"client/cli/a.cc": '#include "server/base/tensor.h"\n'}, "may not include")
        self.assert_caught({"server/base/a.cc": '#include "client/cpp/client.h"\n'}, "may not include")

    def test_one_header_of_a_room(self):
        self.assert_sound({"server/positions/a.cc": '#include "server/problem/spec.h"\n'})
        self.assert_caught({"server/positions/a.cc": '#include "server/problem/check.h"\n'}, "may not include")

    def test_std_system_and_abseil_everywhere(self):
        text = '#include <vector>\n#include <unistd.h>\n#include <sys/socket.h>\n#include "absl/status/status.h"\n'
        self.assert_sound({path: text for path in PACKAGES} | {f"server/{room}/a.h": text for room in MAY})

    def test_one_file_includes_onednn_in_the_whole_tree(self):
        for path in ("tests/kernels/a_test.cc", "client/cpp/a.cc", "server/kernels/other.cc"):
            self.assert_caught({path: "#include <oneapi/dnnl/dnnl.hpp>\n"}, "only server/kernels/matmul.cc")

    def test_tests_may_include_all_else(self):
        self.assert_sound({"tests/a_test.cc": '#include "gtest/gtest.h"\n#include "server/engine/a.h"\n'})

    def test_what_no_rule_knows(self):
        self.assert_caught({"server/base/a.cc": "#include <boost/asio.hpp>\n"}, "no rule knows boost/asio.hpp")
        self.assert_caught({"server/base/a.cc": '#include "../engine/a.h"\n'}, "no rule knows")
        self.assert_caught({"server/attic/a.cc": ""}, "no rule says what the room attic may touch")
        self.assert_caught({"server/helper.cc": ""}, "only main.cc")
        self.assert_caught({"server/base/a.cc": "#include HIDDEN\n"}, "must name its file")

    def test_spellings(self):
        for text in ("#  include <hwy/highway.h>", "  #include<hwy/highway.h>", "#include /* x */ <hwy/highway.h>"):
            self.assertEqual(len(self.problems({"server/base/a.cc": text + "\n"})), 1, text)
        for text in ("// #include <hwy/highway.h>", "/*\n#include <hwy/highway.h>\n*/", 'auto s = R"(\n#include <hwy/x.h>\n)";'):
            self.assert_sound({"server/base/a.cc": text + "\n"})


class Reading(unittest.TestCase):
    def test_kinds_of_functions(self):
        cases = {
            "int F(int a, char b) { return 1; }": ("F", 2),
            "void F(void) {}": ("F", 0),
            "auto F(std::map<int, int> a, int b = G(1, 2)) -> std::vector<int> { return {}; }": ("F", 2),
            "template <typename T, int N = (1 > 0)>\nT F(T a) requires (N > 1) { return a; }": ("F", 1),
            "std::function<void(int, int)> F(const std::function<void(int, int)>& f) { return f; }": ("F", 1),
            "A::A(int a, int b) : a_{a}, b_(b), c_{} { G(); }": ("A", 2),
            "A::A(int a) : Base<int>{a}, b_([] { return 1; }()) {}": ("A", 1),
            "QKV::QKV(int a, int b) : a_(a) {}": ("QKV", 2),
            "A::~A() {}": ("A", 0),
            "bool A::operator()(int a, int b) const { return a < b; }": ("operator", 2),
            "bool operator<(const A& a, const A& b) { return a.x < b.x; }": ("operator", 2),
            "A& A::operator=(A&& other) noexcept(true) { return *this; }": ("operator", 1),
            "A::operator bool() const { return true; }": ("operator", 0),
            "[[nodiscard]] int F(int a) ABSL_LOCKS_EXCLUDED(mutex_) { return a; }": ("F", 1),
            "ABSL_ATTRIBUTE_X(1, 2, 3) int F(int a) { return a; }": ("F", 1),
            "__attribute__((noinline)) int F(int a) { return a; }": ("F", 1),
            "decltype(G(1)) F(int a, int b) { return a; }": ("F", 2),
            "struct A F(int a) { return {a}; }": ("F", 1),
            'extern "C" int F(int a) { return a; }': ("F", 1),
            "TEST_F(Suite, Name) { G(); }": ("TEST_F", 2),
            "int F(int (*g)(int, int), int b[2]) { return 1'000; }": ("F", 2),
            "char F() { const char* s = \"}{\"; return '}'; /* { */ }  // {": ("F", 0),
            'void F() { G(R"x({{{)" }}}}})x"); }': ("F", 0),
            "void F() {\n#define X {\n#if A \\\n  && B {\n#endif\n}": ("F", 0),
        }
        for code, (name, count) in cases.items():
            with self.subTest(code=code):
                self.assertEqual([(n, c) for n, _, c in found(code)], [(name, count)])

    def test_functions_inside_scopes(self):
        code = """
            namespace a::b { namespace {
            class ABSL_LOCKABLE C final : public Base<int> {
             public:
              explicit C(int x) : x_(x) {}
              int Get() const { return x_; }
              enum class Kind : int { kOne = 1, kTwo };
              struct Inner { int y{3}; void Set(int v) { y = v; } } inner_;
             private:
              int x_ = [] { return 2; }();
            };
            struct alignas(64) D { void Run(); };
            } }
            extern "C" { void Plain(int a) {} }
            """
        self.assertEqual([name for name, _, _ in found(code)], ["C", "Get", "Set", "Plain"])

    def test_what_is_no_function(self):
        for code in ("int a[] = {1, 2};", "std::vector<int> v{1, 2};", "constexpr auto f = [](int a) { return a; };",
                     "void F(int a);", "A::A(int) = default;", "enum E { kA, kB };", "using F = void (*)(int);",
                     "ABSL_FLAG(int, port, 1, \"{\");", "concept C = requires(T t) { t.x(); };", "int x = (1 < 2);"):
            with self.subTest(code=code):
                self.assertEqual(found(code), [])

    def test_lines_are_counted_through_everything(self):
        code = 'int F(\n    int a) {\n  /* two\n  lines */\n  return G(R"(\n\n)");\n}\n'
        self.assertEqual(found(code), [("F", 8, 1)])


class Main(unittest.TestCase):
    def run_main(self, text):
        with tempfile.TemporaryDirectory() as root, contextlib.redirect_stdout(io.StringIO()) as out:
            Path(root, "server/base").mkdir(parents=True)
            Path(root, "server/base/a.cc").write_text(text, encoding="utf-8")
            return check_house.main([root]), out.getvalue()

    def test_status_and_summary(self):
        status, out = self.run_main("int F() { return 1; }\n")
        self.assertEqual((status, out), (0, "house: 1 files and 1 functions read, 0 violations\n"))
        status, out = self.run_main(function(71))
        self.assertEqual(status, 1)
        self.assertIn("1 violations", out)


if __name__ == "__main__":
    unittest.main()
