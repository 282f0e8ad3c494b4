#!/usr/bin/env python3
"""Kubernetes' own programs, built from Go's modules and kept in a cache folder: ten minutes the first time.

    binaries.py GO PROGRAM...      prints the folder that holds them
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

# The newest Kubernetes that runs with Debian 12's containerd and with cgroups of version 1.
KUBERNETES = "v1.35.4"
# Program -> module, its version, and the package to build.
PROGRAMS = {
    "etcd": ("go.etcd.io/etcd/server/v3", "v3.6.12", "go.etcd.io/etcd/server/v3"),
    "coredns": ("github.com/coredns/coredns", "v1.15.0", "github.com/coredns/coredns"),
    "metrics-server": ("sigs.k8s.io/metrics-server", "v0.9.0", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
} | {
    name: ("k8s.io/kubernetes", KUBERNETES, f"k8s.io/kubernetes/cmd/{name}")
    for name in ("kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
}


def cache_folder() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "headlight" / f"kubernetes-{KUBERNETES}"


def run(go: str, folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GO111MODULE": "on"}
    done = subprocess.run([go, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"cluster: `go {arguments[0]}` failed:\n" + "\n".join(done.stderr.splitlines()[-15:]))
    return done.stdout


def module_of(go: str, folder: Path, module: str, version: str, packages: list[str]) -> None:
    """A module of our own that needs another's programs. Kubernetes names its parts by folders of its repository: they
    are published as modules of the same release, v0 instead of v1."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "go.mod").write_text("module headlight.local/tools\n")
    theirs = Path(json.loads(run(go, folder, "mod", "download", "-json", f"{module}@{version}"))["GoMod"]).read_text()
    lines = ["module headlight.local/tools", *re.findall(r"^(?:go |godebug ).*", theirs, re.MULTILINE)]
    lines += re.findall(r"^godebug \(.*?^\)", theirs, re.MULTILINE | re.DOTALL)
    lines.append(f"require {module} {version}")
    for part in re.findall(r"^\s*(?:replace )?(\S+) => \./staging/", theirs, re.MULTILINE):
        lines.append(f"replace {part} => {part} v0.{version.removeprefix('v1.')}")
    (folder / "go.mod").write_text("\n".join(dict.fromkeys(lines)) + "\n")
    imports = "".join(f'\t_ "{package}"\n' for package in packages)
    (folder / "tools.go").write_text(f"//go:build tools\n\npackage tools\n\nimport (\n{imports})\n")
    run(go, folder, "mod", "tidy")


def link_flags(version: str) -> str:
    """Kubernetes' programs compare each other's versions, which its own build gives them so."""
    major, minor = version.removeprefix("v").split(".")[:2]
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    places = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return "-s -w" + "".join(f" -X {place}.{name}={value}" for place in places for name, value in values.items())


def need(go: str, programs: list[str]) -> Path:
    """The folder with these programs, those that are missing built first."""
    cache = cache_folder()
    missing = [program for program in programs if not (cache / "bin" / program).exists()]
    by_module: dict[tuple[str, str], list[str]] = {}
    for program in missing:
        by_module.setdefault(PROGRAMS[program][:2], []).append(program)
    for (module, version), wanted in by_module.items():
        everything = [package for name, version_, package in PROGRAMS.values() if (name, version_) == (module, version)]
        folder = cache / "modules" / module.replace("/", "_")
        print(f"cluster: fetching {module} {version}", file=sys.stderr, flush=True)
        module_of(go, folder, module, version, everything)
        for program in wanted:
            began = time.monotonic()
            print(f"cluster: building {program}", file=sys.stderr, flush=True)
            target = cache / "bin" / program
            run(go, folder, "build", "-ldflags", link_flags(version), "-o", f"{target}.new", PROGRAMS[program][2])
            Path(f"{target}.new").rename(target)
            print(f"cluster: built {program} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return cache / "bin"


if __name__ == "__main__":
    if len(sys.argv) < 3 or not set(sys.argv[2:]) <= PROGRAMS.keys():
        sys.exit(f"usage: binaries.py GO PROGRAM...; programs: {', '.join(PROGRAMS)}")
    print(need(sys.argv[1], sys.argv[2:]))
