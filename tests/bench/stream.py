"""`./dev bench stream`: our server's streamed calls beside a bare gRPC server that takes and sends the same messages.

A relay of a known speed stands before both where a row says so. The echo never looks at what comes and sends as many bytes when all have come. Both are called by turns, by one client that
sends prebuilt messages and counts what comes back; medians count. The first answer is checked in double precision. Numbers of
different runs do not compare: machines are shared.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "service"))
import arguments as bench_arguments  # noqa: E402
import report  # noqa: E402
import servers  # noqa: E402

MOST_OVERHEAD = 0.10
MIB = 2**20


@dataclass
class Row:
    """A shape of stream.txt, and what was measured; seconds are medians."""

    name: str
    heads: int
    queries: int
    keys: int
    size: int
    link: int  # MiB a second each way; 0: the loopback as it is
    echo_seconds: float = 0
    server_seconds: float = 0
    mebibytes: float = 0
    max_abs_error: float = 0

    @property
    def overhead(self) -> float:
        """Of the time, over the echo's."""
        return self.server_seconds / self.echo_seconds - 1


def read_rows() -> list[Row]:
    lines = [line.split() for line in bench_arguments.STREAM_ROWS.read_text(encoding="utf-8").splitlines()]
    return [Row(w[0], *map(int, w[1:])) for w in lines if w and not w[0].startswith("#")]


def measure(row: Row, binaries: Path, folder: Path, runs: int) -> None:
    """Fills the row in."""
    ours = servers.start_headlight(binaries, folder)
    try:
        echo = servers.start_echo(binaries, folder, 4 * row.heads * row.queries * row.size)
        try:
            command = [
                str(binaries / "headlight-stream-load"), f"--server={ours.address}", f"--echo={echo.address}",
                f"--heads={row.heads}", f"--queries={row.queries}", f"--keys={row.keys}", f"--size={row.size}",
                f"--runs={runs}", f"--link={row.link * MIB}",
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, timeout=3600)
        finally:
            echo.close()
    finally:
        ours.close()
    if done.returncode != 0:
        sys.exit(f"{row.name}: {done.stderr.strip()}")
    got = json.loads(done.stdout)
    row.echo_seconds = statistics.median(got["echo"])
    row.server_seconds = statistics.median(got["server"])
    row.mebibytes = (got["request_bytes"] + got["answer_bytes"]) / MIB
    row.max_abs_error = got["max_abs_error"]


def show(row: Row) -> None:
    link = f"{row.link} MiB/s" if row.link else "none"
    rates = f"{row.mebibytes / row.echo_seconds:>9.0f} {row.mebibytes / row.server_seconds:>9.0f}"
    verdict = ""
    if row.link > 0:
        met = "met" if row.overhead <= MOST_OVERHEAD else "not met"
        verdict = f"goal: at most {MOST_OVERHEAD:.0%}, {met}"
    print(f"{row.name:<22} {link:>9} {row.mebibytes:>7.0f} {rates} {row.overhead:>9.0%}   {verdict}", flush=True)


def main() -> None:
    options = bench_arguments.stream(sys.argv[1:])
    binaries = Path(options.bin).resolve()
    with tempfile.TemporaryDirectory() as folder:
        ours = servers.start_headlight(binaries, Path(folder))
        info = subprocess.run(
            [str(binaries / "headlight"), "--address", ours.address, "--json", "info"], capture_output=True, text=True, check=True
        )
        ours.close()
        said = json.loads(info.stdout)
        about = report.machine({"version": said["version"], "cpu_target": said["cpu_target"], "threads": said["threads"]}, {})
        print(f"{about['cpu']}, {about['cores']} cores, {about['system']}, load average {about['load_average_before']:.1f}")
        print(f"headlight {said['version']} on {said['cpu_target']}; client and server share the cores; medians of {options.runs}\n")
        print(f"{'shape':<22} {'link':>9} {'MiB':>7} {'echo':>9} {'ours':>9} {'overhead':>9}   MiB/s, both ways together")
        rows = [row for row in read_rows() if options.rows is None or row.name in options.rows.split(",")]
        for row in rows:
            measure(row, binaries, Path(folder), options.runs)
            show(row)
    if options.json:
        found = [{**asdict(row), "overhead": row.overhead} for row in rows]
        options.json.write_text(json.dumps({"machine": about, "rows": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
