"""Makes the contract's Python stubs in the build folder, from the .proto files, and lets them be imported."""

import importlib.resources
import os
import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("HEADLIGHT_STUBS", ROOT / "build" / "integration-stubs"))


def generate() -> None:
    """Runs protoc over proto/ and the Open Inference Protocol, and puts the result on the import path."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    contract, foreign = ROOT / "proto", ROOT / "server" / "service" / "foreign"
    files = sorted(str(path) for path in contract.glob("headlight/v1/*.proto"))
    files.append(str(foreign / "inference" / "open_inference.proto"))
    well_known = str(importlib.resources.files("grpc_tools") / "_proto")
    outputs = [f"--python_out={FOLDER}", f"--grpc_python_out={FOLDER}"]
    if protoc.main(["protoc", f"-I{contract}", f"-I{foreign}", f"-I{well_known}", *outputs, *files]) != 0:
        raise RuntimeError(f"protoc failed on {contract}")
    sys.path.insert(0, str(FOLDER))
