#!/usr/bin/env python3
"""Times attention of ours and of others side by side: `./dev bench peers`.

For each row of peers.txt and each number of threads, everyone's answer is compared with float64; then everyone computes
in turn, again and again, so that a drift of the machine meets all of them. One turn is a call that warms up and some
that are timed, of which the best counts. A row shows the median of the turns and, in brackets, the best; the ratio is
the median of the ratios within a round. Ours is the engine's time from acceptance to answer, without gRPC.

Exit status: 0 all rows were measured, goals met or not; 1 an answer of ours was wrong; 2 it was called wrongly.
"""

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arguments as bench_arguments
import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from onnx import TensorProto, helper
from openvino import opset13

TURN_SECONDS = 0.06  # of timed calls
# After the last call of a peer its idle threads look for work for a while, on processors that are the next one's.
PAUSE_SECONDS = 0.05
SCALING_GOAL = 1.9  # two threads of ours beside one
OURS = "ours"


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    b: int
    hq: int
    hkv: int
    tq: int
    tk: int
    d: int
    dv: int
    causal: bool
    kind: str
    goal: float | None

    @property
    def dtype(self) -> Any:
        return np.float32 if self.kind == "f32" else ml_dtypes.bfloat16


@dataclasses.dataclass
class Contestant:
    """Someone who computes a case: `turn(calls)` returns the seconds of the calls, `answer()` the last answer."""

    name: str
    threads: int
    turn: Callable[[int], list[float]]
    answer: Callable[[], np.ndarray]
    calls: int = 3
    seconds: list[float] = dataclasses.field(default_factory=list)  # the best of each turn

    def estimate(self) -> None:
        """Decides how many calls make a turn."""
        self.calls = max(3, min(100, round(TURN_SECONDS / min(self.turn(2)))))


Inputs = tuple[np.ndarray, np.ndarray, np.ndarray]  # Q, K, V: [B, H, T, D]


def read_cases() -> list[Case]:
    cases = []
    for line in bench_arguments.PEER_ROWS.read_text().splitlines():
        if line and not line.startswith("#"):
            name, *sizes, causal, kinds, goal = line.split()
            b, hq, hkv, tq, tk, d, dv = map(int, sizes)
            least = None if goal == "-" else float(goal)
            for kind in kinds.split(","):
                cases.append(Case(name, b, hq, hkv, tq, tk, d, dv, causal == "1", kind, least))
    return cases


def make_inputs(case: Case) -> Inputs:
    rng = np.random.default_rng(1)
    shapes = [
        (case.b, case.hq, case.tq, case.d),
        (case.b, case.hkv, case.tk, case.d),
        (case.b, case.hkv, case.tk, case.dv),
    ]
    query, key, value = (rng.standard_normal(shape, np.float32).astype(case.dtype) for shape in shapes)
    return query, key, value


def exact(case: Case, inputs: Inputs) -> np.ndarray:
    """The answer in float64."""
    out = np.empty((case.b, case.hq, case.tq, case.dv))
    hidden = np.triu(np.ones((case.tq, case.tk), bool), case.tk - case.tq + 1) if case.causal else None
    query, key, value = (x.astype(np.float64) for x in inputs)
    for b in range(case.b):
        for h in range(case.hq):
            shared = h // (case.hq // case.hkv)
            scores = query[b, h] @ key[b, shared].T / np.sqrt(case.d)
            if hidden is not None:
                scores[hidden] = -np.inf
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            out[b, h] = weights / weights.sum(axis=1, keepdims=True) @ value[b, shared]
    return out


def offence(case: Case, got: np.ndarray, want: np.ndarray) -> str:
    """What is wrong with an answer, or nothing. For bfloat16: what rounding Q, K, V, P and the output loses."""
    if got.shape != want.shape:
        return f"shape {got.shape}"
    bound = 2e-5 + 1e-5 * np.abs(want) if case.kind == "f32" else 1e-2 + 2.0**-7 * np.abs(want)
    worst = np.max(np.where(np.isfinite(got), np.abs(got - want), np.inf) / bound)
    return f"{worst:.3g} times the tolerance" if worst > 1 else ""


class Server:
    """`headlight-bench serve`: what is ours."""

    def __init__(self, binary: str, target: str | None, folder: str) -> None:
        arguments = [binary, "serve", *(["--cpu-target", target] if target else [])]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.folder = Path(folder)
        self.machine = self.ask({"about": True})["machine"]

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            sys.exit("peers: headlight-bench serve ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            sys.exit(f"peers: {answer['error']}")
        return answer

    def contestant(self, case: Case, inputs: Inputs, threads: int) -> tuple[Contestant, int]:
        """And the FLOPs of the case."""
        source, target = self.folder / f"{case.name}.in", self.folder / f"{case.name}.out"
        if not source.exists():
            source.write_bytes(b"".join(x.tobytes() for x in inputs))
        command = {**dataclasses.asdict(case), "threads": threads, "input": str(source)}
        flops = self.ask({**command, "runs": 1, "output": str(target)})["flops"]

        def turn(calls: int) -> list[float]:
            return self.ask({**command, "runs": calls + 1})["seconds"][1:]

        def answer() -> np.ndarray:
            shape = (case.b, case.hq, case.tq, case.dv)
            return np.frombuffer(target.read_bytes(), case.dtype).reshape(shape).astype(np.float64)

        return Contestant(OURS, threads, turn, answer), flops

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def timed(call: Callable[[], Any]) -> Callable[[int], list[float]]:
    def turn(calls: int) -> list[float]:
        call()
        seconds = []
        for _ in range(calls):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
        return seconds

    return turn


def pytorch(case: Case, inputs: Inputs, threads: int) -> Contestant:
    """scaled_dot_product_attention by its flash kernel: what it chooses by itself for such tensors."""
    kind = torch.float32 if case.kind == "f32" else torch.bfloat16
    query, key, value = (torch.from_numpy(x.astype(np.float32)).to(kind) for x in inputs)
    options: dict[str, Any] = {"is_causal": case.causal, "enable_gqa": case.hq != case.hkv}
    attend = torch.nn.functional.scaled_dot_product_attention
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        attend(query, key, value, **options)  # an error where flash does not take it

    def turn(calls: int) -> list[float]:
        torch.set_num_threads(threads)
        return timed(lambda: attend(query, key, value, **options))(calls)

    return Contestant("PyTorch", threads, turn, lambda: attend(query, key, value, **options).double().numpy())


def onnx_session(node: Any, shapes: dict[str, tuple[int, ...]], opsets: dict[str, int], threads: int) -> Any:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph([node], "attention", tensors[:3], tensors[3:])
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def bound_session(session: Any, inputs: list[np.ndarray]) -> tuple[Callable[[], Any], Callable[[], np.ndarray]]:
    """A call without copies of inputs and output, and its answer."""
    binding = session.io_binding()
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(x) for x in inputs]
    for name, value in zip("QKV", values, strict=True):
        binding.bind_ortvalue_input(name, value)
    shape = session.get_outputs()[0].shape
    output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32)
    binding.bind_ortvalue_output("Y", output)

    def call() -> Any:
        return session.run_with_iobinding(binding), values

    return call, output.numpy


def onnx_multi_head(case: Case, inputs: Inputs, threads: int) -> Contestant:
    """ONNX Runtime's MultiHeadAttention, on [B, T, H D] as it takes them."""
    if case.kind != "f32" or case.hq != case.hkv:
        raise NotImplementedError("takes neither bfloat16 on CPU nor grouped heads")
    rows = [np.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(case.b, x.shape[2], -1) for x in inputs]
    shapes = dict(zip("QKV", (x.shape for x in rows), strict=True)) | {"Y": (case.b, case.tq, case.hq * case.dv)}
    node = helper.make_node(
        "MultiHeadAttention",
        list("QKV"),
        ["Y"],
        domain="com.microsoft",
        num_heads=case.hq,
        unidirectional=int(case.causal),
    )
    call, output = bound_session(onnx_session(node, shapes, {"": 20, "com.microsoft": 1}, threads), rows)

    def answer() -> np.ndarray:
        heads = output().reshape(case.b, case.tq, case.hq, case.dv)
        return heads.transpose(0, 2, 1, 3).astype(np.float64)

    return Contestant("ONNX Runtime", threads, timed(call), answer)


def onnx_attention(case: Case, inputs: Inputs, threads: int) -> Contestant:
    """ONNX Runtime's Attention of opset 23."""
    if case.kind != "f32":
        raise NotImplementedError("takes no bfloat16 on CPU")
    shapes = dict(zip("QKV", (x.shape for x in inputs), strict=True)) | {"Y": (case.b, case.hq, case.tq, case.dv)}
    node = helper.make_node("Attention", list("QKV"), ["Y"], is_causal=int(case.causal))
    call, output = bound_session(onnx_session(node, shapes, {"": 23}, threads), list(inputs))
    return Contestant("ORT Attention", threads, timed(call), lambda: output().astype(np.float64))


def open_vino(case: Case, inputs: Inputs, threads: int) -> Contestant:
    """OpenVINO's ScaledDotProductAttention of opset 13."""
    if case.hq != case.hkv:
        raise NotImplementedError("takes no grouped heads")
    kind = openvino.Type.f32 if case.kind == "f32" else openvino.Type.bf16
    parameters = [opset13.parameter(x.shape, kind) for x in inputs]
    attention = opset13.scaled_dot_product_attention(*parameters, causal=case.causal)
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": case.kind,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    model = openvino.Core().compile_model(openvino.Model([attention], parameters, "attention"), "CPU", options)
    request = model.create_infer_request()
    raw = [np.ascontiguousarray(x if case.kind == "f32" else x.view(np.uint16)) for x in inputs]
    tensors = [openvino.Tensor(x, list(x.shape), kind) for x in raw]
    for at, tensor in enumerate(tensors):
        request.set_input_tensor(at, tensor)

    def answer() -> np.ndarray:
        data = request.get_output_tensor(0).data
        return data.view(case.dtype).reshape(case.b, case.hq, case.tq, case.dv).astype(np.float64)

    return Contestant("OpenVINO", threads, timed(lambda: (request.infer(), raw)), answer)


PEERS = {
    "PyTorch": pytorch,
    "ONNX Runtime": onnx_multi_head,
    "ORT Attention": onnx_attention,
    "OpenVINO": open_vino,
}


def gather(server: Server, case: Case, threads: list[int], notes: list[str]) -> tuple[list[Contestant], int] | None:
    """Everyone whose answer is right, and the FLOPs; None where ours is wrong."""
    inputs = make_inputs(case)
    want = exact(case, inputs)
    right = []
    flops = 0
    for count in threads:
        ours, flops = server.contestant(case, inputs, count)
        if wrong := offence(case, ours.answer(), want):
            print(f"{case.name}: ours is WRONG with {count} threads: {wrong}; not timed")
            return None
        right.append(ours)
        for name, make in PEERS.items():
            try:
                peer = make(case, inputs, count)
                peer.turn(1)
                wrong = offence(case, peer.answer(), want)
            except Exception as error:  # whatever a peer throws: it does not run this case
                wrong = f"does not run: {(str(error).strip() or repr(error)).splitlines()[0][:160]}"
            if wrong:
                notes.append(f"{case.name}: {name} {wrong}")
            else:
                right.append(peer)
    return right, flops


def race(contestants: list[Contestant], rounds: int) -> None:
    for contestant in contestants:
        contestant.estimate()
        time.sleep(PAUSE_SECONDS)
    for number in range(rounds):
        first = number % len(contestants)
        for contestant in contestants[first:] + contestants[:first]:
            contestant.seconds.append(min(contestant.turn(contestant.calls)))
            time.sleep(PAUSE_SECONDS)


def ratio(of: Contestant, to: Contestant) -> float:
    """How many times as fast `of` is as `to`."""
    return statistics.median(b / a for a, b in zip(of.seconds, to.seconds, strict=True))


def judge(measured: float, goal: float | None) -> str:
    if goal is None:
        return ""
    return f">= {goal:.2f} {'met' if measured >= goal else 'not met'}"


def row_of(case: Case, count: int, contestants: list[Contestant], flops: int) -> dict[str, Any]:
    here = {c.name: c for c in contestants if c.threads == count}
    ours = here[OURS]
    ratios = {name: ratio(ours, c) for name, c in here.items() if name != OURS}
    best = min(ratios, key=ratios.__getitem__) if ratios else None
    one = next((c for c in contestants if c.name == OURS and c.threads == 1), None)
    row: dict[str, Any] = {"name": case.name, "threads": count, "flops": flops, "goal": case.goal, "best_peer": best}
    row["ratios"] = ratios
    row["ratio"] = ratios[best] if best else None
    row["gflops"] = {
        name: {"median": flops / statistics.median(c.seconds) * 1e-9, "best": flops / min(c.seconds) * 1e-9}
        for name, c in here.items()
    }
    row["seconds"] = {name: c.seconds for name, c in here.items()}
    if case.goal is not None and best:
        row["met"] = row["ratio"] >= case.goal
    if count == 2 and one:
        row["times_one_thread"] = ratio(ours, one)
        row["scaling_met"] = row["times_one_thread"] >= SCALING_GOAL
    return row


def print_row(row: dict[str, Any]) -> None:
    cells = [f"{row['name']:<21} {row['threads']:>3}"]
    for name in (OURS, *PEERS):
        got = row["gflops"].get(name)
        cells.append(f"{got['median']:6.1f} ({got['best']:5.1f})" if got else f"{'-':>14}")
    if row["best_peer"]:
        cells.append(f"{row['ratio']:5.2f} x {row['best_peer']:<13} {judge(row['ratio'], row['goal']):<15}")
    if "times_one_thread" in row:
        cells.append(f"{row['times_one_thread']:5.2f} {judge(row['times_one_thread'], SCALING_GOAL)}")
    print("  ".join(cells).rstrip(), flush=True)


def versions() -> dict[str, str]:
    return {
        "PyTorch": torch.__version__,
        "ONNX Runtime": onnxruntime.__version__,
        "onnx": onnx.__version__,
        "OpenVINO": openvino.__version__,
        "numpy": np.__version__,
    }


def print_head(machine: dict[str, Any], rounds: int) -> None:
    print(f"{machine['processor']}, {machine['cores']} cores; CPU target {machine['cpu_target']}; ", end="")
    print(f"oneDNN {machine['onednn']}, Highway {machine['highway']}")
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    print(f"effective GFLOP/s of {rounds} rounds: median (best); a causal call counts the pairs that may attend\n")
    names = "  ".join(f"{name:>14}" for name in (OURS, *PEERS))
    print(f"{'row':<21} {'thr':>3}  {names}  {'ours beside the best of the others':<37}  two threads beside one")


def main(arguments: list[str]) -> int:
    options = bench_arguments.peers(arguments)
    torch.set_grad_enabled(False)
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    wrong = False
    with tempfile.TemporaryDirectory() as folder:
        server = Server(options.binary, options.cpu_target, folder)
        print_head(server.machine, options.rounds)
        for case in read_cases():
            if options.rows and case.name not in options.rows.split(","):
                continue
            # Goals are for the best that the machine has, on both sides.
            if options.cpu_target or (case.kind == "bf16" and not server.machine["avx512_bf16"]):
                case = dataclasses.replace(case, goal=None)
            gathered = gather(server, case, options.threads, notes)
            if gathered is None:
                wrong = True
                continue
            contestants, flops = gathered
            race(contestants, options.rounds)
            for count in options.threads:
                rows.append(row_of(case, count, contestants, flops))
                print_row(rows[-1])
        server.close()
    notes = list(dict.fromkeys(notes))  # the same with any number of threads
    for note in notes:
        print(f"not timed: {note}")
    if options.cpu_target:
        print(f"ours computed with {options.cpu_target}, the others with the best they have: only scaling is judged")
    goals = [row[key] for row in rows for key in ("met", "scaling_met") if key in row]
    print(f"{sum(goals)} of {len(goals)} goals met")
    if options.json:
        report = {
            "machine": server.machine,
            "versions": versions(),
            "rounds": options.rounds,
            "rows": rows,
            "notes": notes,
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
