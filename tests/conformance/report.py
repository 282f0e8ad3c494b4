"""docs/conformance.md: one row for every case."""

import re
from dataclasses import dataclass, field

import onnx
from cases import ATTENTION, CASES, ROTARY, Case
from server_process import ROOT

PATH = ROOT / "docs" / "conformance.md"
COLUMNS = ["naive", "flash"]
ROW = re.compile(r"^\| (test_\w+) \| (.+) \| (.+) \| (.+) \|$", re.M)

HEAD = """\
# Conformance

Generated: `tests/conformance/run --write-report` writes this page from a run against the built server.

The node cases that `onnx` {version} generates (`onnx.backend.test.case.node.collect_testcases`, without the `_expanded`
twins), each sent to the server as `Attend`, with both algorithms. Shape and type must be equal. A value may be off by
the case's own tolerance, {tolerance}. Where a case is in 16 bits, its expected values were rounded at
every step: their distance from the exact ones is allowed too, and the half unit in the last place by which the answer
itself is rounded; it must be no farther from the exact value. *Largest error*: the largest |got - expected| of both
runs.

{counts}
"""

ATTENTION_TEXT = """
## Attention

`past_key` and `past_value` are joined with the new keys and values by the client, and `present_*` is what it then
holds. `softmax_precision` needs no field: the softmax is in float32 at least. How the other attributes translate:
[semantics](semantics.md#onnx).
"""

ROTARY_TEXT = """
## RotaryEmbedding

Seen through SCALED maps whose keys are unit vectors at position 0. The cases' caches are random, no sines and cosines
of position x base^(-2c/r), so no one call can say a case: each is put together from calls with two channel pairs, whose
angles are given by the linear factor and the base.
"""


@dataclass
class Results:
    """Largest error by case and algorithm; none where the case failed. What did not run is missing."""

    errors: dict[tuple[str, str], float | None] = field(default_factory=dict)

    def verdict(self, name: str, algorithm: str) -> str:
        if (name, algorithm) not in self.errors:
            return "not run"
        return "failed" if self.errors[name, algorithm] is None else "passed"

    def largest(self, name: str) -> str:
        known = [e for (n, _), e in self.errors.items() if n == name and e is not None]
        return f"{max(known):.0e}" if known else "-"


def _passed(results: Results, cases: list[Case], algorithm: str) -> str:
    passed = sum(results.verdict(case.name, algorithm) == "passed" for case in cases)
    return f"{algorithm} {passed} of {len(cases)}"


def counts(results: Results) -> list[str]:
    """How many cases passed, a line for each operator."""
    kinds = {"Attention": ATTENTION, "RotaryEmbedding": ROTARY}
    return [f"ONNX {kind}: " + ", ".join(_passed(results, cases, a) for a in COLUMNS) for kind, cases in kinds.items()]


def _table(results: Results, cases: list[Case]) -> str:
    rows = [
        f"| {case.name} | {' | '.join(results.verdict(case.name, a) for a in COLUMNS)} | {results.largest(case.name)} |"
        for case in cases
    ]
    return "\n".join(["", "| case | naive | flash | largest error |", "| --- | --- | --- | --- |", *rows, ""])


def page(results: Results) -> str:
    tolerances = sorted({f"rtol {case.rtol:g}, atol {case.atol:g}" for case in CASES})
    listed = "\n".join(f"- {line}" for line in counts(results))
    head = HEAD.format(version=onnx.__version__, tolerance=" or ".join(tolerances), counts=listed)
    return head + ATTENTION_TEXT + _table(results, ATTENTION) + ROTARY_TEXT + _table(results, ROTARY)


def rows_of(text: str) -> dict[str, tuple[str, str]]:
    """The cases that a page names, and what it says of naive and flash."""
    return {name: (naive, flash) for name, naive, flash, _ in ROW.findall(text)}
