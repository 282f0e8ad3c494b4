"""The images of the test, made beside the product's in build/image, all in one Docker archive."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build/image"
SERVER = "localhost/headlight:latest"
NEXT = "localhost/headlight:next"  # the same under another name and with other contents, for rollouts
CLIENT = "localhost/headlight-client:latest"
PAUSE = "localhost/pause:3.10"  # what holds a pod's namespaces


def _tool(name: str, *arguments: str) -> str:
    command = [name, "--root", str(WORK / "store"), "--runroot", str(WORK / "run"), *arguments]
    environment = {**os.environ, "CONTAINERS_CONF": str(WORK / "containers.conf")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    if done.returncode != 0:
        raise RuntimeError(f"{name} {arguments[0]} failed:\n" + "\n".join((done.stdout + done.stderr).splitlines()[-20:]))
    return done.stdout


def build_all(archive: Path) -> None:
    """Needs the product's image, as `./dev image` leaves it."""
    if not (WORK / "base").exists():
        raise RuntimeError("there is no image yet: `./dev image` first")
    base = (WORK / "base").read_text().strip()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(Path(__file__).with_name("client"), folder, dirs_exist_ok=True)
        shutil.copytree(ROOT / "proto", Path(folder) / "proto")
        _tool("buildah", "bud", "-q", "--network", "host", "--build-arg", f"BASE={base}", "-t", CLIENT, folder)
    container = _tool("buildah", "from", SERVER).strip()
    _tool("buildah", "config", "--env", "HEADLIGHT_TEST_RELEASE=next", container)
    _tool("buildah", "commit", "-q", "--rm", container, NEXT)
    with tempfile.TemporaryDirectory() as folder:
        # Debian's catatonit is static, and with -P it does what Kubernetes' own pause does.
        (Path(folder) / "Containerfile").write_text('FROM scratch\nCOPY catatonit /pause\nUSER 65535:65535\nENTRYPOINT ["/pause", "-P"]\n')
        (Path(folder) / "catatonit").write_bytes(Path("/usr/bin/catatonit").read_bytes())
        (Path(folder) / "catatonit").chmod(0o755)
        _tool("buildah", "bud", "-q", "-t", PAUSE, folder)
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.unlink(missing_ok=True)
    _tool("podman", "save", "-q", "--format", "docker-archive", "-m", "-o", str(archive), SERVER, NEXT, CLIENT, PAUSE)
