"""ONNX's node cases, over the wire, with both algorithms."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_attention
import onnx_rotary
import pytest
import report
from cases import ATTENTION, CASES, ROTARY, Case
from reference import assert_close, attend, rounding
from wire import FLASH, NAIVE

Outputs = dict[str, np.ndarray]
ALGORITHMS = {"naive": NAIVE, "flash": FLASH}

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def allowed_error(case: Case, got: np.ndarray, want: np.ndarray, exact: np.ndarray | None) -> np.ndarray:
    """The case's tolerance. In 16 bits `want` was rounded at every step and `got` once, at the end: both count."""
    allowed = case.atol + case.rtol * np.abs(want)
    if exact is None or got.dtype.itemsize != 2:
        return allowed
    assert_close(got, exact)
    return allowed + np.abs(want - exact) + rounding(exact, got.dtype)


def largest_error(case: Case, got: Outputs, exact: Outputs) -> float:
    """Asserts that all outputs are as expected; by how much they are off at most."""
    largest = 0.0
    assert got.keys() == case.outputs.keys()
    for name, expected in case.outputs.items():
        assert got[name].shape == expected.shape, name
        assert got[name].dtype == expected.dtype, name
        numbers, want = got[name].astype(np.float64), expected.astype(np.float64)
        finite = np.isfinite(want)
        assert np.array_equal(numbers[~finite], want[~finite], equal_nan=True), name
        exactly = exact[name][finite] if name in exact else None
        allowed = allowed_error(case, got[name][finite], want[finite], exactly)
        error = np.abs(numbers[finite] - want[finite])
        assert np.all(error <= allowed), f"{name}: off by {np.max(error - allowed)} more than allowed"
        largest = max(largest, float(error.max(initial=0)))
    return largest


def judge(results: report.Results, case: Case, algorithm: str, run: Callable[[], tuple[Outputs, Outputs]]) -> None:
    """Runs a case; what it came to stands in the report, whatever happens."""
    results.errors[case.name, algorithm] = None
    got, exact = run()
    results.errors[case.name, algorithm] = largest_error(case, got, exact)


@every_algorithm
@pytest.mark.parametrize("case", ATTENTION, ids=lambda case: case.name)
def test_attention(server, results, case: Case, algorithm: str) -> None:
    request = onnx_attention.request_of(case, ALGORITHMS[algorithm])

    def run() -> tuple[Outputs, Outputs]:
        answer = server.attend(request)
        assert answer.execution.algorithm == ALGORITHMS[algorithm]
        exact = onnx_attention.exact_outputs(case, attend(request))
        return onnx_attention.outputs_of(case, answer), exact

    judge(results, case, algorithm, run)


@every_algorithm
@pytest.mark.parametrize("case", ROTARY, ids=lambda case: case.name)
def test_rotary_embedding(server, results, case: Case, algorithm: str) -> None:
    judge(
        results, case, algorithm, lambda: (onnx_rotary.outputs_of(case, server.attend, ALGORITHMS[algorithm]), {})
    )


def test_every_case_is_there() -> None:
    assert len(ATTENTION) >= 93 and len(ROTARY) >= 8
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_report_names_every_case(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--write-report"):
        pytest.skip("the report is being written")
    text = report.PATH.read_text(encoding="utf-8")
    rows = report.rows_of(text)
    assert list(rows) == [case.name for case in CASES]
    assert set(rows.values()) == {("passed", "passed")}, "run tests/conformance/run --write-report"
    assert f"`onnx` {onnx.__version__} " in text
