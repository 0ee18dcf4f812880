"""Decides how a Go module becomes programs: built once, kept in the cache.

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
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import DevclusterError, MissingRequirementError
from devcluster.packages import DIE_WITH_US, find_program
from devcluster.progress import say

_REPORT_SECONDS = 20.0
#: Another checkout may need the one before; a running cluster does not notice that its files are gone.
_KEPT_BUILDS = 2
# Static binaries, the same with and without a C compiler here; a go.work around the checkout is not ours.
_GO_ENVIRONMENT = {"CGO_ENABLED": "0", "GOWORK": "off"}


@dataclass(frozen=True)
class GoModule:
    """Commands of one published module, built through a small module of our own that pins all it needs."""

    title: str
    #: The module in this package that requires the published one.
    directory: Path
    #: The published module's path.
    requires: str
    commands: tuple[str, ...]
    minimum_go: tuple[int, int]
    #: How long a cold build takes on two cores.
    minutes: int
    #: Variables of the version package that the linker sets.
    version_package: str = ""
    #: Directories of the published module that the cache keeps beside the programs, YAML files only.
    manifests: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """Read the version from go.mod, its one home."""
        pattern = rf"^\s*(?:require )?{re.escape(self.requires)} (v\S+)$"
        found = re.search(pattern, (self.directory / "go.mod").read_text(), re.MULTILINE)
        if found is None:
            raise DevclusterError(f"{self.directory / 'go.mod'} names no version of {self.requires}")
        return found.group(1)

    @property
    def linker_flags(self) -> str:
        if not self.version_package:
            return "-s -w"
        major, minor, _ = self.version.removeprefix("v").split(".", 2)
        values = {"gitVersion": self.version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
        return " ".join(["-s", "-w", *(f"-X {self.version_package}.{name}={value}" for name, value in values.items())])

    def key(self) -> str:
        """Hash what the programs depend on."""
        digest = hashlib.sha256()
        for name in ("go.mod", "go.sum"):
            digest.update((self.directory / name).read_bytes())
        digest.update("\0".join([*self.commands, *self.manifests, self.linker_flags, platform.machine()]).encode())
        return digest.hexdigest()[:16]

    def entry(self, cache: Path) -> Path:
        """Name the directory of the programs, there or not."""
        return cache / self.directory.name / self.key()

    def ensure(self, cache: Path) -> Path:
        """Return the directory of the programs, built first if need be.

        :raises MissingRequirementError: without a Go that is new enough.
        """
        target = self.entry(cache)
        if target.is_dir():
            return target
        go = self.require_go()
        with exclusive(cache / f"{self.directory.name}.lock"):
            if not target.is_dir():
                self._build(go, target)
        return target

    def require_go(self) -> str:
        """Find a Go that can build this module.

        :raises MissingRequirementError: without one.
        """
        needed = f"Go {'.'.join(map(str, self.minimum_go))} or newer is needed once, to build {self.title}"
        go = find_program("go") or shutil.which("/usr/local/go/bin/go")
        if go is None:
            raise MissingRequirementError(f"{needed}: install it and put go on PATH")
        # Asked where it will build: a Go that fetches the toolchain which go.mod asks for is new enough.
        asked = _run_go(go, self.directory, "env", "GOVERSION")
        numbers = re.match(r"go(\d+)\.(\d+)", asked.stdout)
        if numbers is None or (int(numbers[1]), int(numbers[2])) < self.minimum_go:
            reason = (asked.stdout.strip() or asked.stderr.strip() or "unusable").splitlines()[-1]
            raise MissingRequirementError(f"{needed}; {go} says: {reason}")
        return go

    def _build(self, go: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in target.parent.glob("*.tmp"):
            shutil.rmtree(stale)
        building = target.with_name(f"{target.name}.tmp")
        building.mkdir()
        say(f"building {self.title} {self.version} with {go}: about {self.minutes} minutes on 2 cores, once")
        self._compile(go, building, target.parent / "build.log")
        if self.manifests:
            self._copy_manifests(go, building / "manifests")
        building.rename(target)
        say(f"built {self.title} {self.version}")
        entries = (path for path in target.parent.iterdir() if path.is_dir())
        for old in sorted(entries, key=lambda path: path.stat().st_mtime, reverse=True)[_KEPT_BUILDS:]:
            shutil.rmtree(old)

    def _compile(self, go: str, building: Path, log: Path) -> None:
        command = [
            *DIE_WITH_US, go, "build", "-v", "-trimpath", "-buildvcs=false",
            "-mod=readonly", "-ldflags", self.linker_flags, "-o", f"{building}/",
            *(f"{self.requires}/cmd/{name}" for name in self.commands),
        ]  # fmt: skip
        env = {**os.environ, **_GO_ENVIRONMENT}
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=self.directory, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
            try:
                self._watch(process, log)
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        if process.returncode != 0:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise DevclusterError(f"the {self.title} build failed ({log}): {' '.join(last)}")

    def _watch(self, process: subprocess.Popen[bytes], log: Path) -> None:
        next_report = time.monotonic() + _REPORT_SECONDS
        while process.poll() is None:
            time.sleep(0.5)
            if time.monotonic() >= next_report:
                next_report += _REPORT_SECONDS
                lines = log.read_bytes().splitlines()
                downloads = sum(line.startswith(b"go: downloading") for line in lines)
                say(f"building {self.title}: {downloads} modules fetched, {len(lines) - downloads} packages so far")

    def _copy_manifests(self, go: str, destination: Path) -> None:
        done = _run_go(go, self.directory, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", self.requires)
        if done.returncode != 0:
            raise DevclusterError(f"go cannot find the files of {self.requires}: {done.stderr.strip()}")
        for name in self.manifests:
            source, copy = Path(done.stdout.strip(), name), destination / name
            copy.mkdir(parents=True)
            for file in source.glob("*.yaml"):
                shutil.copyfile(file, copy / file.name)  # without the mode: the module cache is read-only


def _run_go(go: str, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **_GO_ENVIRONMENT}
    return subprocess.run([go, *arguments], cwd=directory, env=env, capture_output=True, text=True, check=False)


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
