#include "client/cli/npy.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/files.h"

namespace headlight::cli {
namespace {

// A file with any header, right or wrong.
std::string File(const std::string& header, const std::string& data, char major = 1, char minor = 0) {
  std::string bytes = absl::StrCat("\x93NUMPY", std::string{major, minor});
  const auto length = static_cast<std::uint32_t>(header.size());
  bytes.append(reinterpret_cast<const char*>(&length), major == 1 ? 2 : 4);
  return absl::StrCat(bytes, header, data);
}

std::string HeaderOf(const std::string& descr, const std::string& shape) {
  return absl::StrCat("{'descr': '", descr, "', 'fortran_order': False, 'shape': ", shape, ", }          \n");
}

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::string MessageOf(const std::string& bytes) { return std::string(ParseNpy(bytes).status().message()); }

TEST(Npy, RoundTrip) {
  const std::vector<std::vector<std::int64_t>> shapes = {{}, {6}, {2, 3}, {1, 1, 6}, {1, 3, 2, 1}, {0}, {0, 5}};
  for (const std::vector<std::int64_t>& shape : shapes) {
    std::size_t count = 1;
    for (const std::int64_t axis : shape) count *= static_cast<std::size_t>(axis);
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i) - 2.5F;
    const std::string bytes = FormatNpy(values, shape);
    EXPECT_EQ((bytes.size() - values.size() * 4) % 64, 0);
    const auto array = ParseNpy(bytes);
    ASSERT_TRUE(array.ok()) << array.status();
    EXPECT_EQ(array->shape, shape);
    EXPECT_EQ(array->values, values);
    EXPECT_FALSE(array->boolean);
  }
}

TEST(Npy, WritesWhatNumpyWrites) {
  const std::string bytes = FormatNpy(std::vector<float>{1}, std::vector<std::int64_t>{1});
  EXPECT_TRUE(absl::StartsWith(bytes, absl::string_view("\x93NUMPY\x01\x00\x76\x00", 10)));
  EXPECT_TRUE(absl::StrContains(bytes, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"));
  EXPECT_EQ(bytes[127], '\n');
}

TEST(Npy, ReadsEveryVersionAndDtype) {
  for (const char major : {'\1', '\2', '\3'}) {
    const auto array = ParseNpy(File(HeaderOf("<f4", "(2,)"), Bytes<float>({1.5F, -2}), major));
    ASSERT_TRUE(array.ok()) << array.status();
    EXPECT_EQ(array->values, (std::vector<float>{1.5F, -2}));
  }
  EXPECT_EQ(ParseNpy(File(HeaderOf("<f2", "(2,)"), Bytes<std::uint16_t>({0x3c00, 0xc000})))->values,
            (std::vector<float>{1, -2}));
  EXPECT_EQ(ParseNpy(File(HeaderOf("<f8", "(2,)"), Bytes<double>({0.1, 1e300})))->values,
            (std::vector<float>{0.1F, std::numeric_limits<float>::infinity()}));
  EXPECT_EQ(ParseNpy(File(HeaderOf("<i8", "(2,)"), Bytes<std::int64_t>({-3, 4})))->values, (std::vector<float>{-3, 4}));
  const auto booleans = ParseNpy(File(HeaderOf("|b1", "(3,)"), std::string("\1\0\1", 3)));
  EXPECT_TRUE(booleans->boolean);
  EXPECT_EQ(booleans->values, (std::vector<float>{1, 0, 1}));
}

TEST(Npy, HeaderInAnyOrderAndSpacing) {
  const std::string data = Bytes<float>({1, 2});
  EXPECT_TRUE(ParseNpy(File("{\"shape\":(2,),\"fortran_order\":False,\"descr\":\"<f4\"}", data)).ok());
  EXPECT_TRUE(ParseNpy(File("{ 'shape' : ( 2 , ) , 'descr' : '<f4' , 'fortran_order' : False , } \n", data)).ok());
}

TEST(Npy, SaysWhatToDo) {
  const std::string fortran = "{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }";
  EXPECT_TRUE(absl::StrContains(MessageOf(File(fortran, Bytes<float>({1, 2}))), "numpy.ascontiguousarray"));
  EXPECT_TRUE(absl::StrContains(MessageOf(File(HeaderOf(">f4", "(1,)"), "abcd")), "x.astype(\"<f4\")"));
  EXPECT_TRUE(absl::StrContains(MessageOf(File(HeaderOf("|O", "(1,)"), "abcd")), "dtype \"|O\" is not read"));
  EXPECT_EQ(MessageOf("PK\3\4"), "not a .npy file");
  EXPECT_TRUE(absl::StrContains(MessageOf(File(HeaderOf("<f4", "(1,)"), "abcd", 4)), "version 4.0 is not read"));
  EXPECT_TRUE(absl::StrContains(MessageOf(File(HeaderOf("<f4", "(1,)"), "abcd", 1, 1)), "version 1.1 is not read"));
  EXPECT_TRUE(absl::StrContains(MessageOf(File(HeaderOf("<f4", "(3, 2)"), "abcd")),
                                "shape (3, 2) of 4-byte elements does not match the 4 bytes of data"));
}

TEST(Npy, SizesThatDoNotMatch) {
  const std::string data = Bytes<float>({1, 2});
  for (const char* shape :
       {"(1,)", "(3,)", "(2, 2)", "()", "(0,)", "(4611686018427387904, 4)", "(9223372036854775807,)",
        "(4294967296, 4294967296)", "(2, 9223372036854775807, 9223372036854775807)"}) {
    EXPECT_FALSE(ParseNpy(File(HeaderOf("<f4", shape), data)).ok()) << shape;
  }
  EXPECT_FALSE(ParseNpy(File(HeaderOf("<f4", "(2,)"), data + "x")).ok());
  EXPECT_FALSE(ParseNpy(File(HeaderOf("<f4", "(2,)"), data.substr(1))).ok());
}

TEST(Npy, HostileHeaders) {
  const std::string data = Bytes<float>({1});
  const std::string many = absl::StrCat("(", std::string(3000, '1'), ",)");
  std::string deep = "(";
  for (int i = 0; i < 40; ++i) deep += "1, ";
  for (const std::string& header : {
           std::string(),
           std::string("{"),
           std::string("}"),
           std::string("{}"),
           std::string("{'descr"),
           std::string("{'descr': '<f4'"),
           std::string("{'descr': '<f4', 'fortran_order': False}"),
           std::string("{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}"),
           std::string("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}"),
           std::string("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}"),
           std::string("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x"),
           std::string("{'descr': '<f4' 'fortran_order': False, 'shape': (1,)}"),
           std::string("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}"),
           HeaderOf("<f4", "(-1,)"),
           HeaderOf("<f4", "(1"),
           HeaderOf("<f4", "(,)"),
           HeaderOf("<f4", "(1 1)"),
           HeaderOf("<f4", "(1.0,)"),
           HeaderOf("<f4", "(0x1,)"),
           HeaderOf("<f4", "(99999999999999999999,)"),
           HeaderOf("<f4", many),
           HeaderOf("<f4", deep + ")"),
           HeaderOf("", "(1,)"),
       }) {
    EXPECT_FALSE(ParseNpy(File(header, data)).ok()) << header;
  }
}

TEST(Npy, EveryTruncationAndEveryChangedByteIsSafe) {
  const std::string whole = FormatNpy(std::vector<float>{1, 2, 3, 4, 5, 6}, std::vector<std::int64_t>{2, 3});
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(ParseNpy(absl::string_view(whole).substr(0, length)).ok()) << length;
  }
  for (std::size_t at = 0; at < 128; ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string changed = whole;
      changed[at] = static_cast<char>(byte);
      const auto array = ParseNpy(changed);
      EXPECT_TRUE(!array.ok() || array->values.size() <= 24);
    }
  }
}

TEST(Npy, ALengthBeyondTheFile) {
  std::string bytes = absl::StrCat("\x93NUMPY", std::string("\x02\x00", 2), "\xff\xff\xff\xff", "{}");
  EXPECT_FALSE(ParseNpy(bytes).ok());
}

TEST(Npy, FilesOnDisk) {
  const std::string folder = ::testing::TempDir() + "/npy_test." + std::to_string(getpid());
  std::filesystem::create_directories(folder);
  const std::string path = folder + "/x.npy";
  ASSERT_TRUE(WriteNpy(path, std::vector<float>{1, 2}, std::vector<std::int64_t>{2}).ok());
  EXPECT_EQ(ReadNpy(path)->values, (std::vector<float>{1, 2}));
  ASSERT_TRUE(WriteFile(path, "junk").ok());
  EXPECT_EQ(ReadNpy(path).status().message(), path + ": not a .npy file");
  EXPECT_EQ(ReadNpy(folder + "/none.npy").status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(absl::StrContains(ReadNpy(folder).status().message(), "not a regular file"));
  EXPECT_TRUE(absl::StrContains(
      WriteNpy(folder + "/no/such/x.npy", std::vector<float>{1}, std::vector<std::int64_t>{1}).message(),
      "cannot be written"));
}

}  // namespace
}  // namespace headlight::cli
