#!/usr/bin/env python3
"""Holds the house's lines: how large a function or a file may be, and what each room may include.

Usage: check_house.py [ROOT]   (ROOT: the top of the tree; the tree that this file is in by default)

Reads every .cc and .h under server/, client/ and tests/. Prints `path:line: what is wrong` for each violation and exits 1;
prints one line that counts what was read and exits 0 when there is none. A tree without any source is a violation.
Comments, strings and preprocessor lines are never taken for code. Python's standard library is all it needs.
"""

import re
import sys
from pathlib import Path

FUNCTION_LINES = 70
KERNEL_FUNCTION_LINES = 110
PARAMETERS = 7
FILE_LINES = {".cc": 500, ".h": 250}
SHORT_FILES = {"CMakeLists.txt": 120, "server/main.cc": 60}  # fewer lines than this
SOURCES = ("server", "client", "tests")
SKIPPED_FOLDERS = {"build", "node_modules", "__pycache__", ".venv"}
OTHER_SUFFIXES = {".cpp", ".cxx", ".c", ".hpp", ".hh", ".hxx", ".inc", ".inl", ".ipp"}

# What each room may include beside itself, the standard library and Abseil: rooms, one header of a room, packages.
ROOMS = {
    "base": set(),
    "problem": {"base"},
    "masks": {"base", "problem"},
    "plan": {"base", "problem", "masks"},
    "host": {"base"},
    "faults": set(),
    "admission": {"base", "plan", "host", "faults"},
    "positions": {"base", "problem/spec.h", "kernels"},
    "kernels": {"base", "Highway"},
    "engine": {"base", "problem", "masks", "plan", "positions", "kernels", "admission"},
    "analysis": {"base", "problem", "engine", "kernels", "Eigen"},
    "layers": {"base", "problem", "nlohmann", "OpenSSL"},
    "telemetry": {"base", "host", "Prometheus", "nlohmann"},
    "security": {"base", "OpenSSL"},
    "web": {"base", "security", "protobuf", "gRPC", "httplib", "OpenSSL", "nlohmann"},
}
ROOMS["service"] = set(ROOMS) | {"protobuf", "gRPC", "spdlog"}
FILES = {
    "server/kernels/matmul.cc": ROOMS["kernels"] | {"oneDNN", "OpenMP"},
    "server/main.cc": {"service", "base"},
    "server/service/flags.cc": ROOMS["service"] | {"CLI11"},
}
CLIENT = {"client", "protobuf", "gRPC", "CLI11", "nlohmann"}
ONEDNN_FILE = "server/kernels/matmul.cc"

# The first that matches names the package of an include.
PACKAGES = [
    ("protobuf", r"google/protobuf/|.*(?<!\.grpc)\.pb\.h$"),
    ("gRPC", r"grpc(pp|\+\+)?/|.*\.grpc\.pb\.h$"),
    ("Prometheus", r"prometheus/"),
    ("Highway", r"hwy/"),
    ("Eigen", r"Eigen/"),
    ("oneDNN", r"oneapi/dnnl/|dnnl"),
    ("OpenMP", r"omp\.h$"),
    ("spdlog", r"spdlog/|fmt/"),
    ("CLI11", r"CLI/"),
    ("nlohmann", r"nlohmann/"),
    ("httplib", r"httplib\.h$"),
    ("OpenSSL", r"openssl/"),
    ("client", r"client/"),
    ("Abseil", r"absl/"),
    # <vector>, and the system's <unistd.h> and <sys/socket.h>
    ("std", r"[a-z_0-9]+(\.h)?$|(sys|netinet|arpa|net|linux)/[a-z_0-9]+\.h$"),
]

TOKENS = re.compile(
    r'(?P<comment>//(?:\\\n|[^\n])*|/\*.*?\*/)'
    r'|(?P<raw>(?:u8|[uUL])?R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)")'
    r'|(?P<string>(?:u8|[uUL])?"(?:\\.|[^"\\\n])*")'
    r"|(?P<number>\.?\d(?:[eEpP][+-]|'(?=\w)|[\w.])*)"
    r"|(?P<char>(?:u8|[uUL])?'(?:\\.|[^'\\\n])+')"
    r'|(?P<line>^[ \t]*\#(?:\\\n|/\*.*?\*/|(?!//|/\*)[^\n])*)'
    r'|(?P<word>[A-Za-z_]\w*)'
    r'|(?P<sign>->|::|[^\s\w])',
    re.S | re.M)
OPENERS = {"(": ")", "{": "}", "[": "]"}
# Words and macros whose parentheses are not a parameter list.
NOT_A_FUNCTION = {"decltype", "alignas", "__attribute__", "noexcept", "requires", "explicit", "sizeof"}
TYPES = {"class", "struct", "union", "enum"}


class Unreadable(Exception):
    """The braces of a file do not close."""


def tokenize(text):
    """Returns (tokens, directives): tokens as (text, line) with literals blanked; directives as (text, line)."""
    tokens, directives, line, at = [], [], 1, 0
    for match in TOKENS.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        kind, value = match.lastgroup, match.group()
        if kind == "line":
            directives.append((value.strip(), line))
        elif kind in ("raw", "string"):
            tokens.append(('""', line))
        elif kind in ("char", "number"):
            tokens.append(("0", line))
        elif kind != "comment":
            tokens.append((value, line))
    return tokens, directives


class Functions:
    """Finds the functions defined in a file: self.found holds (name, first line, last line, parameters)."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.found = []
        at = self.scope(0)
        if at < len(tokens):
            raise Unreadable(tokens[at][1])

    def text(self, at):
        return self.tokens[at][0] if 0 <= at < len(self.tokens) else ""

    def after_group(self, at):
        """The index after the bracket that closes the one at `at`."""
        start, open_brackets = at, []
        while at < len(self.tokens):
            token = self.text(at)
            if token in OPENERS:
                open_brackets.append(OPENERS[token])
            elif token in OPENERS.values():
                if token != open_brackets.pop():
                    raise Unreadable(self.tokens[at][1])
                if not open_brackets:
                    return at + 1
            at += 1
        raise Unreadable(self.tokens[start][1])

    def after_statement(self, at):
        """The index after the next `;` that is in no bracket."""
        while at < len(self.tokens) and self.text(at) not in (";", "}"):
            at = self.after_group(at) if self.text(at) in OPENERS else at + 1
        return at + 1 if self.text(at) == ";" else at

    def scope(self, at):
        """Reads the declarations of a file, a namespace or a class; returns the index of its `}` or the end."""
        while at < len(self.tokens) and self.text(at) != "}":
            at = self.declaration(at)
        return at

    def inner_scope(self, at):
        """Reads what stands in the braces that open at `at`; returns the index after them."""
        end = self.scope(at + 1)
        if self.text(end) != "}":
            raise Unreadable(self.tokens[at][1])
        return end + 1

    def declaration(self, start):
        """Reads one declaration, keeps it if it is a function with a body, and returns the index after it."""
        at, angles, words, in_initializers = start, 0, set(), False
        parameters = None  # (name, index of the opening parenthesis)
        while at < len(self.tokens):
            token, before = self.text(at), self.text(at - 1) if at > start else ""
            if token == "}":
                return at
            if token == ";":
                return at + 1
            if token == "operator":
                at = self.operator_name(at)
                parameters = parameters or ("operator", at)
                at = self.after_group(at)
            elif token == "<" and (re.match(r"\w", before) or angles):
                angles, at = angles + 1, at + 1
            elif token == ">" and angles:
                angles, at = angles - 1, at + 1
            elif token == "(":
                if not angles and before not in NOT_A_FUNCTION and not in_initializers:
                    if parameters is None or self.is_macro(parameters[0]) and not self.is_macro(before):
                        parameters = (before, at)
                at = self.after_group(at)
            elif token == "[" or token == "{" and angles:
                at = self.after_group(at)
            elif token == "=" and not angles:
                return self.after_statement(at)
            elif token == ":" and before in ("public", "private", "protected"):
                return at + 1
            elif token == ":" and parameters and not words & TYPES:
                in_initializers, at = True, at + 1
            elif token == "{":
                if words & {"namespace"} or words == {"extern", '""'}:
                    return self.inner_scope(at)
                is_type = words & TYPES and (parameters is None or self.is_macro(parameters[0]))
                if is_type and "enum" not in words:
                    return self.after_statement(self.inner_scope(at))
                if is_type or parameters is None:
                    return self.after_statement(self.after_group(at))
                if in_initializers and re.match(r"\w|>", before):
                    at = self.after_group(at)  # a member's initializer
                else:
                    return self.body(start, at, parameters)
            else:
                if not angles:
                    words.add(token)
                at += 1
        return at

    def operator_name(self, at):
        """The index of the parenthesis that opens the parameters of the operator at `at`."""
        at += 1
        if self.text(at) == "(":
            at += 2
        while at < len(self.tokens) and self.text(at) != "(":
            at += 1
        return at

    @staticmethod
    def is_macro(name):
        return re.fullmatch(r"[A-Z][A-Z0-9]*_[A-Z0-9_]*|[A-Z]{2,}", name) is not None

    def body(self, start, brace, parameters):
        end = self.after_group(brace)
        name, opener = parameters
        self.found.append((name, self.tokens[start][1], self.tokens[end - 1][1], self.count_parameters(opener)))
        return end

    def count_parameters(self, at):
        end = self.after_group(at) - 1
        inside = [self.text(i) for i in range(at + 1, end)]
        if inside in ([], ["void"]):
            return 0
        count, angles, at = 1, 0, at + 1
        while at < end:
            token = self.text(at)
            if token in OPENERS:
                at = self.after_group(at)
                continue
            if token == "<" and re.match(r"\w", self.text(at - 1)):
                angles += 1
            elif token == ">" and angles:
                angles -= 1
            elif token == "," and not angles:
                count += 1
            at += 1
        return count


def check_limits(path, text, tokens, problems):
    """Adds what is too long in one source; returns how many functions it defines."""
    lines = text.count("\n")
    limit = FILE_LINES[Path(path).suffix]
    if lines > limit:
        problems.append(f"{path}:{lines}: the file has {lines} lines, the limit is {limit}")
    try:
        functions = Functions(tokens).found
    except Unreadable as e:
        problems.append(f"{path}:{e}: the brackets do not match (is one of them behind an #if?)")
        return 0
    longest = KERNEL_FUNCTION_LINES if path.startswith("server/kernels/") else FUNCTION_LINES
    for name, first, last, parameters in functions:
        if last - first + 1 > longest:
            problems.append(f"{path}:{first}: {name} has {last - first + 1} lines, the limit is {longest}")
        if parameters > PARAMETERS:
            problems.append(f"{path}:{first}: {name} has {parameters} parameters, the limit is {PARAMETERS}")
    return len(functions)


def allowed_for(path):
    """What a file may include beside std and Abseil; None: anything; a string: why it may not be there at all."""
    parts = path.split("/")
    if path in FILES:
        return FILES[path] | ({parts[1]} if len(parts) > 2 else set())
    if parts[0] == "server":
        if len(parts) == 2:
            return "only main.cc stands in server/ outside a room"
        return ROOMS[parts[1]] | {parts[1]} if parts[1] in ROOMS else f"no rule says what the room {parts[1]} may touch"
    return CLIENT if parts[0] == "client" else None


def package_of(target):
    return next((name for name, pattern in PACKAGES if re.match(pattern, target)), None)


def check_includes(path, directives, problems):
    allowed = allowed_for(path)
    if isinstance(allowed, str):
        problems.append(f"{path}:1: {allowed}")
        return
    for directive, line in directives:
        if not re.match(r"#\s*(include|import)\b", directive):
            continue
        literal = re.match(r'#\s*include\s*[<"]([^">]+)[">]', directive)
        if not literal:
            problems.append(f"{path}:{line}: an include must name its file")
            continue
        target = literal.group(1)
        package = package_of(target)
        if package == "oneDNN" and path != ONEDNN_FILE:
            problems.append(f"{path}:{line}: only {ONEDNN_FILE} includes oneDNN")
        elif allowed is None or package in ("std", "Abseil"):
            continue
        elif target.startswith("server/"):
            room = target.split("/")[1]
            if room not in allowed and target.removeprefix("server/") not in allowed:
                problems.append(f"{path}:{line}: may not include {target}")
        elif package is None:
            problems.append(f"{path}:{line}: no rule knows {target} (write paths from the top of the tree)")
        elif package not in allowed:
            problems.append(f"{path}:{line}: may not include {target} ({package})")


def sources(root):
    """The C++ files of ours, as paths from the top of the tree."""
    for top in SOURCES:
        for path in sorted((root / top).rglob("*")):
            relative = path.relative_to(root)
            if path.is_file() and not SKIPPED_FOLDERS & set(relative.parts):
                yield relative.as_posix()


def check(root):
    """Returns (problems, files read, functions read)."""
    problems, files, functions = [], 0, 0
    for path in sources(root):
        suffix = Path(path).suffix
        if suffix in OTHER_SUFFIXES:
            problems.append(f"{path}:1: C++ files are named .cc or .h")
        if suffix not in FILE_LINES:
            continue
        text = (root / path).read_text(encoding="utf-8")
        tokens, directives = tokenize(text)
        functions += check_limits(path, text, tokens, problems)
        check_includes(path, directives, problems)
        files += 1
    for path, limit in SHORT_FILES.items():
        lines = (root / path).read_text(encoding="utf-8").count("\n") if (root / path).exists() else 0
        if lines >= limit:
            problems.append(f"{path}:{lines}: the file has {lines} lines, it must stay under {limit}")
    if files == 0:
        problems.append("no source was found")
    return problems, files, functions


def main(arguments):
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[2]
    problems, files, functions = check(root)
    for problem in problems:
        print(problem)
    print(f"house: {files} files and {functions} functions read, {len(problems)} violations")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
