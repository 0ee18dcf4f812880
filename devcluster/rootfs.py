"""Decides what the image's base is: Debian's minimal root with its Python, made once by debootstrap.

The root is kept unpacked as well: its own Python compiles what the other layers hold, so that a pod on a read-only
root starts without compiling.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from devcluster import network, oci, packages
from devcluster.errors import DevclusterError
from devcluster.progress import say

USER_ID = 65532
#: Raise it when this module makes the base in another way.
_GENERATION = 1
_INCLUDE = "python3,ca-certificates"
_UNNEEDED = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale", "var/log")


@dataclass(frozen=True)
class BaseRoot:
    """The base layer, and the same root unpacked."""

    layer: oci.Layer
    directory: Path

    @property
    def python_version(self) -> str:
        """Name the Python of the image, such as 3.11."""
        names = (re.fullmatch(r"python(3\.\d+)", p.name) for p in (self.directory / "usr/bin").iterdir())
        return next(match[1] for match in names if match)

    @property
    def site_packages(self) -> str:
        """Name the directory, below the root, that Debian's Python searches for local packages."""
        return f"usr/local/lib/python{self.python_version}/dist-packages"

    def compile(self, directory: Path) -> None:
        """Compile a directory that will be ``site_packages``, with the image's own Python and paths.

        The bind mount lives in a mount namespace of its own, so a kill leaves none behind.
        """
        script = (
            'mount --bind "$1" "$2/$3" && '
            'exec chroot "$2" python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "/$3"'
        )
        (self.directory / self.site_packages).mkdir(parents=True, exist_ok=True)
        command = [
            "unshare",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
            str(directory),
            str(self.directory),
            self.site_packages,
        ]
        # A few packages ship templates that are no valid Python; they are of no use at run time either.
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": packages.SEARCH_PATH})
        if not any(directory.rglob("*.pyc")):
            raise DevclusterError(
                f"compiling the image's Python packages failed: {done.stderr.strip() or done.stdout.strip()}"
            )


def ensure(cache: Path) -> BaseRoot:
    """Return the base, made first if need be (about a minute)."""
    suite, mirror = _suite_and_mirror()
    key = f"base-{_GENERATION}-{suite}-{platform.machine()}"
    directory = cache / "rootfs" / key
    if not directory.is_dir():
        packages.require_root()
        packages.install(packages.missing_packages(packages.IMAGE_PACKAGES))
        _bootstrap(suite, mirror, directory)
    layer = oci.cached(cache / "layers", key) or oci.pack(directory, cache / "layers", key)
    return BaseRoot(layer, directory)


def _suite_and_mirror() -> tuple[str, str]:
    """Take the release of this machine and the mirror that its own apt uses."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    suite = release.get("VERSION_CODENAME", "").strip('"')
    command = ["apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(SITE)", "Identifier: Packages"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        raise DevclusterError("apt-get cannot say which mirror it uses: the image needs Debian or Ubuntu") from error
    for line in lines:
        codename, component, site = line.split(" ", 2)
        if (codename, component) == (suite, "main"):
            return suite, site
    raise DevclusterError(f"apt knows no mirror of {suite or 'this release'}; run apt-get update")


def _bootstrap(suite: str, mirror: str, directory: Path) -> None:
    say(f"making a Debian {suite} root (about a minute, once)")
    building = directory.with_name(f"{directory.name}.tmp")
    network.remove_tree(building)
    building.mkdir(parents=True)
    # debootstrap mounts /proc and /sys in the new root: in namespaces of its own, mounts and processes go with it
    # however it ends.
    isolated = [*packages.DIE_WITH_US, "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    bootstrap = ["debootstrap", "--variant=minbase", f"--include={_INCLUDE}", suite, str(building), mirror]
    log = directory.with_name("debootstrap.log")
    with log.open("w") as file:
        done = subprocess.run(
            [*isolated, *bootstrap], stdout=file, stderr=file, check=False, env={"PATH": packages.SEARCH_PATH}
        )
    if done.returncode != 0:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise DevclusterError(f"debootstrap failed ({log}): {' '.join(last)}")
    for name in _UNNEEDED:
        shutil.rmtree(building / name, ignore_errors=True)
        (building / name).mkdir(parents=True)
    with (building / "etc/passwd").open("a") as passwd:
        passwd.write(f"mlops:x:{USER_ID}:{USER_ID}::/tmp:/usr/sbin/nologin\n")
    with (building / "etc/group").open("a") as group:
        group.write(f"mlops:x:{USER_ID}:\n")
    (building / "etc/resolv.conf").write_text("")
    building.rename(directory)
