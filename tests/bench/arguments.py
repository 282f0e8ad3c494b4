"""What the benchmarks' command lines take, refused before the work begins rather than after it."""

import argparse
from pathlib import Path

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
