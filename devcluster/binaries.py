"""Decides how Kubernetes is made: built once with Go from the module in ``devcluster/kubernetes``, kept in the
cache.

An entry of the cache is named by a hash over everything that shapes it and appears in one rename: a build that is
killed leaves a directory that nobody reads, which the next build removes. Go's own build cache makes that next
build short.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devcluster.errors import DevclusterError, MissingRequirementError
from devcluster.packages import DIE_WITH_US, find_program
from devcluster.progress import say

MODULE = Path(__file__).parent / "kubernetes"
COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
_MINIMUM_GO = (1, 24)
_REPORT_SECONDS = 20.0
#: Another checkout may need the one before; a running cluster does not notice that its files are gone.
_KEPT_BUILDS = 2


def kubernetes_version() -> str:
    """Read the version from go.mod, its one home."""
    found = re.search(r"^\s*(?:require )?k8s\.io/kubernetes (v\S+)$", (MODULE / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise DevclusterError(f"{MODULE / 'go.mod'} names no version of k8s.io/kubernetes")
    return found.group(1)


def _linker_flags() -> str:
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    package = "k8s.io/component-base/version"
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(["-s", "-w", *(f"-X {package}.{name}={value}" for name, value in values.items())])


def key() -> str:
    """Hash what the binaries depend on."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update((MODULE / name).read_bytes())
    digest.update("\0".join([*COMMANDS, _linker_flags(), platform.machine()]).encode())
    return digest.hexdigest()[:16]


def ensure(cache: Path) -> Path:
    """Return the directory of the binaries, built first if need be (about 10 minutes on 2 cores).

    :raises MissingRequirementError: without a Go that is new enough.
    """
    target = cache / "kubernetes" / key()
    if target.is_dir():
        return target
    go = _require_go()
    with exclusive(cache / "kubernetes.lock"):
        if not target.is_dir():
            _build(go, target)
    return target


def kubectl(cache: Path) -> str | None:
    """Find a kubectl without building one: the cache's, or the system's."""
    cached = cache / "kubernetes" / key() / "kubectl"
    return str(cached) if cached.exists() else find_program("kubectl")


def _require_go() -> str:
    go = find_program("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise MissingRequirementError(
            "Go 1.24 or newer is needed once, to build Kubernetes: install it and put go on PATH"
        )
    version = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    numbers = re.match(r"go(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < _MINIMUM_GO:
        raise MissingRequirementError(
            f"Go 1.24 or newer is needed to build Kubernetes; {go} is {version.strip() or 'unusable'}"
        )
    return go


def _build(go: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for stale in target.parent.glob("*.tmp"):
        shutil.rmtree(stale)
    building = target.with_name(f"{target.name}.tmp")
    building.mkdir()
    log = target.parent / "build.log"
    command = [
        *DIE_WITH_US, go, "build", "-v", "-trimpath", "-buildvcs=false",
        "-mod=readonly", "-ldflags", _linker_flags(), "-o", f"{building}/",
        *(f"k8s.io/kubernetes/cmd/{name}" for name in COMMANDS),
    ]  # fmt: skip
    # Static binaries, the same with and without a C compiler here; a go.work around the checkout is not ours.
    env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    say(f"building Kubernetes {kubernetes_version()} with {go}: about 10 minutes on 2 cores, once")
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=MODULE, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        try:
            _watch(process, log)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode != 0:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise DevclusterError(f"the Kubernetes build failed ({log}): {' '.join(last)}")
    building.rename(target)
    say(f"built Kubernetes {kubernetes_version()}")
    entries = sorted((p for p in target.parent.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime, reverse=True)
    for old in entries[_KEPT_BUILDS:]:
        shutil.rmtree(old)


def _watch(process: subprocess.Popen[bytes], log: Path) -> None:
    next_report = time.monotonic() + _REPORT_SECONDS
    while process.poll() is None:
        time.sleep(0.5)
        if time.monotonic() >= next_report:
            next_report += _REPORT_SECONDS
            say(f"building Kubernetes: {len(log.read_bytes().splitlines())} packages so far")


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a file lock in the cache, where a lock file may stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting: somebody else holds {path}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
