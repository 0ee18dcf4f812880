"""Publishing files on a Git branch to which others push as well.

Decides how a change lands: as one commit on top of whatever the branch is by then, never by force, never an empty one,
and again with a random pause where somebody else was faster. Nothing is checked out, so nothing in the repository (a
link, a hook, an attribute) takes part. What the files say is left to the caller, credentials to the variables that it
hands over. Runs ``git`` on the network; no Airflow.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from airflow_mlops_provider.exceptions import AccessDeniedError, PermanentError, TransientError

#: A GitOps repository answers in seconds; with others pushing all the time, the last of twelve needed 12 attempts.
TOTAL_SECONDS: Final = 120.0
_LONGEST_PAUSE_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.2
_AUTHOR = {"NAME": "airflow-mlops", "EMAIL": "airflow-mlops@noreply.invalid"}
#: ``[rejected]``: the branch has moved. The others: two pushes met on the server.
_LOST_RACE = re.compile(r"\[rejected\]|cannot lock ref|failed to update ref|failed to lock|reference already exists")
_REFUSED = re.compile(r"\[remote rejected\].*|pre-receive hook declined", re.IGNORECASE)
_NO_ACCESS = re.compile(
    r"authentication failed|permission denied|could not read (username|password)|access denied|not allowed|"
    r"host key verification failed|returned error: 40[13]",
    re.IGNORECASE,
)
_NOT_THERE = re.compile(
    r"couldn't find remote ref|does not appear to be a git repository|repository .*not found|does not exist|"
    r"no such file or directory|unsupported protocol|unable to find remote helper",
    re.IGNORECASE,
)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True, kw_only=True)
class GitBranch:
    """Where files are published.

    :param url: https, ssh or a path, as ``git`` takes it.
    :param variables: environment variables for ``git`` that carry the credentials.
    """

    url: str = field(repr=False)
    branch: str
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"branch {self.branch} of {redact(self.url)}"


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What became of it.

    :param commit: the branch's commit that holds the files.
    :param changed: False where the branch held them already.
    :param attempts: how often they were put on top of the branch until they landed.
    :param former: what the changed files held before; None where there was no file.
    """

    commit: str
    changed: bool
    attempts: int
    former: Mapping[str, str | None]


def publish_files(
    target: GitBranch,
    files: Mapping[str, str | None],
    *,
    message: str,
    trailers: Mapping[str, str | None] | None = None,
    keep: Callable[[str, str | None], bool] = lambda _, __: False,
    total_seconds: float = TOTAL_SECONDS,
) -> Publication:
    """Write files to a branch, and nothing else.

    Doing it twice makes one commit, also where the answer to the first push was lost.

    :param files: path in the repository → text; None removes the file.
    :param trailers: ``Key: value`` lines at the message's end; None leaves one out.
    :param keep: asked with a path and what it holds (None: no file), each time anew; True leaves it as it is.
    :raises PermanentError: no such repository or branch, no access, or the server's rules refuse the commit.
    :raises TransientError: the server did not answer, or others kept pushing, for *total_seconds*.
    """
    for path in files:
        _check_path(path)
    with tempfile.TemporaryDirectory(prefix="mlops-git-") as directory:
        git = _Git(Path(directory), target, time.monotonic() + total_seconds)
        git.run("init", "--quiet", "--bare", "--template=", ".")
        for attempt in itertools.count(1):
            base = git.fetch()
            former = {path: git.read(base, path) for path in files}
            wanted = {path: text for path, text in files.items() if not keep(path, former[path])}
            tree = git.write_tree(base, wanted)
            if tree == git.run("rev-parse", f"{base}^{{tree}}"):
                return Publication(commit=base, changed=False, attempts=attempt, former={})
            commit = git.run("commit-tree", tree, "-p", base, "-F", "-", stdin=_full_message(message, trailers or {}))
            if git.push(commit):
                changed = {path: text for path, text in former.items() if path in wanted and text != wanted[path]}
                return Publication(commit=commit, changed=True, attempts=attempt, former=changed)
            git.pause(attempt)
    raise AssertionError("unreachable: the loop ends by returning or raising")


def redact(text: str) -> str:
    """Return *text* without the user and password of URLs."""
    return _USER_INFO.sub("", text)


def _check_path(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or {"..", ".git"} & {part.lower() for part in parts} or not path.isprintable():
        raise ValueError(f"{path!r} is not a path inside a repository")


def _full_message(message: str, trailers: Mapping[str, str | None]) -> str:
    # A line break in a value would start a line of somebody else's choice.
    lines = [f"{key}: {' '.join(value.split())}" for key, value in trailers.items() if value]
    return "\n".join([" ".join(message.split()), *(["", *lines] if lines else [])]) + "\n"


class _Git:
    """One bare repository of our own beside the published one."""

    def __init__(self, directory: Path, target: GitBranch, deadline: float) -> None:
        self.directory, self.target, self.deadline = directory, target, deadline
        inherited = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE")}
        people = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in _AUTHOR.items()}
        self.environment = {
            **inherited,
            **people,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_INDEX_FILE": str(directory / "index"),
            "LC_ALL": "C",
            **target.variables,
        }

    def fetch(self) -> str:
        """Return the branch's commit as it is now."""
        self.run(
            "fetch", "--quiet", "--no-tags", "--depth=1", "--", self.target.url, f"refs/heads/{self.target.branch}"
        )
        return self.run("rev-parse", "FETCH_HEAD^{commit}")

    def read(self, base: str, path: str) -> str | None:
        """Return what a file holds, None where there is none."""
        code, text, _ = self._start("cat-file", "blob", f"{base}:{path}")
        return None if code else text

    def write_tree(self, base: str, files: Mapping[str, str | None]) -> str:
        """Return the tree of *base* with the files in it."""
        self.run("read-tree", base)
        entries = []
        for path, text in files.items():
            blob = None if text is None else self.run("hash-object", "-w", "--stdin", stdin=text)
            entries.append(f"100644 {blob}\t{path}\0" if blob else f"0 {'0' * 40}\t{path}\0")
        self.run("update-index", "-z", "--index-info", stdin="".join(entries))
        return self.run("write-tree")

    def push(self, commit: str) -> bool:
        """Return whether the commit landed; False where somebody else was faster."""
        refspec = f"{commit}:refs/heads/{self.target.branch}"
        code, _, said = self._start("push", "--porcelain", "--", self.target.url, refspec)
        if code == 0:
            return True
        if _LOST_RACE.search(said):
            return False
        raise self._error("push", said)

    def pause(self, attempt: int) -> None:
        """Wait at random, so that those who met once do not meet again."""
        longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**attempt)
        seconds = secrets.SystemRandom().uniform(0, longest)
        if time.monotonic() + seconds > self.deadline:
            raise TransientError(f"{self.target}: others pushed first {attempt} times in a row; try again")
        time.sleep(seconds)

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Return what ``git`` printed."""
        code, printed, said = self._start(*arguments, stdin=stdin)
        if code:
            raise self._error(arguments[0], said)
        return printed.strip()

    def _start(self, *arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
        """Return exit code, output, and everything it said."""
        try:
            process = subprocess.Popen(
                ["git", *arguments],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # its ssh and http helpers hold the pipes and have to end with it
            )
        except FileNotFoundError as error:
            raise PermanentError("git is not installed where the task runs; install it") from error
        try:
            out, err = process.communicate(stdin, timeout=max(self.deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired as error:
            raise TransientError(f"{self.target}: git {arguments[0]} had no answer in time; try again") from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return process.returncode, out, f"{out}\n{err}"

    def _error(self, command: str, said: str) -> PermanentError | TransientError:
        lines = [redact(line.strip()) for line in said.splitlines() if line.strip()]
        text = f"{self.target}: git {command} failed: {' · '.join(lines[-4:])}"
        if _NO_ACCESS.search(said):
            return AccessDeniedError(f"{text}; check the connection's key or token and its right to push")
        if _REFUSED.search(said):
            return PermanentError(f"{text}; the server's rules refuse the commit, ask who keeps the repository")
        if _NOT_THERE.search(said):
            return PermanentError(f"{text}; name an existing repository and branch")
        if command in ("fetch", "push"):
            return TransientError(text)
        return PermanentError(text)
