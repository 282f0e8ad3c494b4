"""The servers that are compared, as processes: started on a free port of the loopback, ended by their process id."""

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
READY = re.compile(r"^ready grpc=(\S+)", re.M)
TRITON_READY = re.compile(r"Started GRPCInferenceService")
TRITON_VERSION = re.compile(r"server_version\s*\|\s*(\S+)")
LISTENING = "0A"
MODEL = "attention"
HEADS, SIZE = 8, 64


class NotRun(Exception):
    """Why a server cannot take part."""


def environment(extra: dict[str, str]) -> dict[str, str]:
    """This process's environment without what would configure a server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADLIGHT_", "GRPC_"))}
    return {**kept, **extra}


def install(name: str, *options: str) -> None:
    """Installs requirements-NAME.txt with pip's options in the environment that this runs in, unless that was done."""
    requirements = HERE / f"requirements-{name}.txt"
    stamp = Path(sys.prefix) / f"{name}.stamp"
    if sys.prefix == sys.base_prefix:
        raise NotRun("not in a virtual environment; ./dev bench service makes one")
    if stamp.exists() and stamp.read_text() == requirements.read_text():
        return
    print(f"installing {requirements.name}", flush=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options]
    done = subprocess.run([*pip, "-r", str(requirements)], capture_output=True, text=True)
    if done.returncode != 0:
        raise NotRun(f"pip: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    stamp.write_text(requirements.read_text())


def listening_port(pid: int) -> int | None:
    """The one TCP port that a process listens on."""
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(os.readlink(entry))
        except FileNotFoundError:
            continue  # closed meanwhile
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == LISTENING and f"socket:[{columns[9]}]" in sockets:
                return int(columns[1].rpartition(":")[2], 16)
    return None


class Server:
    """A running server. All that it prints goes to LOGS/NAME.log."""

    def __init__(self, name: str, command: list[str], logs: Path, ready: re.Pattern = READY, **variables: str):
        self.name = name
        self.log = logs / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.log"
        with self.log.open("wb") as log:
            # A group of its own: what it starts itself ends with it, and Ctrl-C reaches this process alone.
            self.process = subprocess.Popen(
                command, env=environment(variables), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )
        try:
            self.address = self._wait_until_ready(ready, 120)
        except BaseException:
            self.close()
            raise

    def _wait_until_ready(self, ready: re.Pattern, seconds: float) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = ready.search(self.output())
            if found is not None:
                port = None if found.groups() else listening_port(self.process.pid)
                return found[1] if found.groups() else f"127.0.0.1:{port}"
            if self.process.poll() is not None:
                last = (self.output().strip().splitlines() or ["it said nothing"])[-1]
                raise NotRun(f"ended with status {self.process.returncode}: {last}")
            time.sleep(0.02)
        raise NotRun(f"not ready within {seconds:.0f} s")

    def output(self) -> str:
        """All that it has printed."""
        return self.log.read_text(errors="replace")

    def close(self) -> None:
        """Ends it and what it started, whatever they do."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def start_headlight(binaries: Path, logs: Path) -> Server:
    flags = ["--listen=127.0.0.1:0", "--http=", "--web=", "--threads=2"]
    return Server("headlight", [str(binaries / "headlight-server"), *flags], logs)


def start_echo(binaries: Path, logs: Path, answer_bytes: int) -> Server:
    return Server("echo", [str(binaries / "headlight-echo"), f"--answer-bytes={answer_bytes}"], logs)


def start_torch(logs: Path, stubs: Path, workers: int, threads: int) -> Server:
    install("torch")
    command = [sys.executable, "-B", str(HERE / "torch_server.py"), str(workers), str(threads)]
    name = f"torch {workers} x {threads}"
    return Server(name, command, logs, PYTHONPATH=str(stubs), OMP_NUM_THREADS=str(threads))


def write_attention_model(path: Path) -> None:
    """ONNX Runtime's fused attention, [1, T, H x D] in and out."""
    import onnx
    from onnx import helper

    names = ("query", "key", "value")

    def tensor(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, "tokens", HEADS * SIZE])

    node = helper.make_node("MultiHeadAttention", names, ["output"], domain="com.microsoft", num_heads=HEADS)
    graph = helper.make_graph([node], MODEL, [tensor(name) for name in names], [tensor("output")])
    operators = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=operators, ir_version=10), path)


def triton_config(instances: int, threads: int) -> str:
    def tensor(name: str) -> str:
        return f'{{ name: "{name}" data_type: TYPE_FP32 dims: [1, -1, {HEADS * SIZE}] }}'

    return f"""backend: "python"
max_batch_size: 0
input [ {", ".join(tensor(name) for name in ("query", "key", "value"))} ]
output [ {tensor("output")} ]
instance_group [ {{ count: {instances} kind: KIND_CPU }} ]
parameters {{ key: "threads" value: {{ string_value: "{threads}" }} }}
"""


def start_triton(logs: Path, folder: Path, instances: int, threads: int) -> Server:
    """Triton with ONNX Runtime behind its Python backend: the package has no other backend."""
    packages = Path(sys.prefix) / "triton"
    install("triton", "--no-deps", "--upgrade", "--target", str(packages))
    triton = packages / "pytriton" / "tritonserver"
    stub = triton / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    if not stub.is_dir():
        raise NotRun(f"the package has no backend for Python {stub.name}")
    shutil.rmtree(folder, ignore_errors=True)
    backend, model = folder / "backends" / "python", folder / "models" / MODEL
    shutil.copytree(triton / "backends" / "python", backend, symlinks=True)
    # Links, since the libraries beside them are found by relative paths.
    for file in [*(triton / "backends" / "python").glob("*.so"), stub / "triton_python_backend_stub"]:
        (backend / file.name).unlink(missing_ok=True)
        (backend / file.name).symlink_to(file)
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(triton_config(instances, threads))
    shutil.copy(HERE / "triton_model.py", model / "1" / "model.py")
    write_attention_model(model / "1" / "attention.onnx")
    command = [
        str(triton / "bin" / "tritonserver"),
        f"--model-repository={folder / 'models'}",
        f"--backend-directory={folder / 'backends'}",
        "--allow-http=false", "--allow-metrics=false", "--grpc-address=127.0.0.1", "--grpc-port=0",
    ]  # fmt: skip
    return Server(f"triton {instances} x {threads}", command, logs, TRITON_READY, PYTHONPATH=str(packages))


def peer_versions(triton: Server | None) -> dict[str, str]:
    """Of what is installed here, and of what runs."""
    names = {"torch", "grpcio", "onnxruntime", "nvidia-pytriton"}
    found_in = [*sys.path, str(Path(sys.prefix) / "triton")]
    installed = importlib.metadata.distributions(path=found_in)
    versions = {package.name: package.version for package in installed if package.name in names}
    found = TRITON_VERSION.search(triton.output()) if triton is not None else None
    return {**versions, **({"tritonserver": found[1]} if found is not None else {})}
