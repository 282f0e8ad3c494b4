"""What the benchmarks' command lines take, refused before the work begins rather than after it.

`arguments.py peers|service|stream ARGS` looks at them alone, before `./dev bench` installs gigabytes. Exit status 2: they are wrong.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEER_ROWS = ROOT / "tests/bench/peers.txt"
STREAM_ROWS = ROOT / "tests/bench/stream.txt"

CPU_TARGETS = ("avx512", "avx2", "sse4", "neon", "baseline")
MOST_THREADS = 256


def count(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: at least 1")
    return number


def threads(text: str) -> int:
    number = count(text)
    if number > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{number}: at most {MOST_THREADS}")
    return number


def seconds(text: str) -> float:
    """A length of time above 0."""
    number = float(text)
    if not 0 < number < 86400:
        raise argparse.ArgumentTypeError(f"{text}: above 0 and below a day")
    return number


def writable(text: str) -> Path:
    """A file for a report, made now: a report that cannot be written would cost the whole run."""
    path = Path(text)
    try:
        path.open("a").close()
    except OSError as why:
        raise argparse.ArgumentTypeError(f"cannot write {path}: {why.strerror}") from None
    return path


def thread_counts(text: str) -> list[int]:
    try:
        return sorted({threads(number) for number in text.split(",")})
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: numbers with commas between") from None


def peers(arguments: list[str]) -> argparse.Namespace:
    """Of `./dev bench peers`."""
    parser = argparse.ArgumentParser(prog="./dev bench peers", description="Times attention of ours and of others side by side.")
    parser.add_argument("binary", help=argparse.SUPPRESS)
    parser.add_argument(
        "--threads", type=thread_counts, default=[1, 2], help="numbers of threads, with commas between (1,2)"
    )
    parser.add_argument("--rows", help="names of rows of tests/bench/peers.txt, with commas between (all)")
    parser.add_argument("--rounds", type=count, default=7, help="turns of each (7)")
    parser.add_argument(
        "--cpu-target",
        choices=CPU_TARGETS,
        help="of ours (the best); the others choose for themselves, so no goals are judged",
    )
    parser.add_argument("--json", type=writable, help="file for the report")
    options = parser.parse_args(arguments)
    check_rows(parser, options.rows, PEER_ROWS)
    return options


def check_rows(parser: argparse.ArgumentParser, rows: str | None, file: Path) -> None:
    """Refuses names that no line of the file begins with."""
    lines = file.read_text(encoding="utf-8").splitlines()
    known = {line.split()[0] for line in lines if line and not line.startswith("#")}
    unknown = set(rows.split(",")) - known if rows else set()
    if unknown:
        parser.error(f"no row is called {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")


def stream(arguments: list[str]) -> argparse.Namespace:
    """Of `./dev bench stream`."""
    parser = argparse.ArgumentParser(prog="./dev bench stream", description="Our streamed calls beside a bare gRPC echo.")
    parser.add_argument("--rows", help="names of rows of tests/bench/stream.txt, with commas between (all)")
    parser.add_argument("--runs", type=count, default=15, help="calls of each (15)")
    parser.add_argument("--json", type=writable, help="file for the report")
    parser.add_argument("--bin", default=str(ROOT / "build/release/bin"), help="where our binaries are")
    options = parser.parse_args(arguments)
    check_rows(parser, options.rows, STREAM_ROWS)
    return options


def service(arguments: list[str]) -> argparse.Namespace:
    """Of `./dev bench service`."""
    parser = argparse.ArgumentParser(prog="./dev bench service", description="Our server beside others, over the wire.")
    parser.add_argument("--tokens", type=count, nargs="+", default=[16, 128, 512, 2048], help="lengths of sequences")
    parser.add_argument("--clients", type=count, nargs="+", default=[1, 8], help="clients at once")
    parser.add_argument("--rounds", type=count, default=5, help="turns of every server in a case")
    parser.add_argument("--seconds", type=seconds, default=2.5, help="length of a turn")
    parser.add_argument("--warmup", type=seconds, default=0.5, help="seconds before each turn that do not count")
    parser.add_argument("--no-peers", action="store_true", help="our server and the echo alone")
    parser.add_argument("--json", type=writable, help="write all numbers to this file")
    parser.add_argument("--bin", default=str(ROOT / "build/release/bin"), help="where our binaries are")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    {"peers": peers, "service": service, "stream": stream}[sys.argv[1]](sys.argv[2:])
