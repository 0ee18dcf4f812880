"""The command line: ``python3 -m devcluster up | down | status | kubeconfig | image``.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 the state says no, 2 usage or something
is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from devcluster import binaries, cluster, external, image, processes
from devcluster.ensure import ensure_cluster
from devcluster.errors import DevclusterError
from devcluster.layout import Layout
from devcluster.progress import say

_COMMANDS = {
    "up": "bring the cluster up, or adopt the one that is up; prints the kubeconfig's path",
    "down": "end it and remove everything but the cache",
    "status": "say what runs; exit code 0 only if all of it is healthy",
    "kubeconfig": "print the kubeconfig's path",
    "image": "build the runtime image from model_runtime, load it, print its name; needs a cluster, so brings it up",
}


def up() -> None:
    print(ensure_cluster().kubeconfig)


def down() -> None:
    if external.kubeconfig() is not None:
        say(f"{external.VARIABLE} names a cluster that is not ours to take down: nothing done")
        return
    layout = Layout.from_environment()
    say("the cluster is down" if cluster.down(layout) else "there is no cluster: nothing done")


def status() -> None:
    named = external.kubeconfig()
    if named is not None:
        external.verify(named)
        print(f"the cluster of {external.VARIABLE} answers\nkubeconfig  {named}")
        print(f"KServe      {external.kserve_version(named) or 'none'}")
        return
    layout = Layout.from_environment()
    for name in cluster.services(layout):
        print(f"{name:<24} {processes.running_pid(layout, name) or 'not running'}")
    if not cluster.is_up(layout):
        raise DevclusterError("no healthy cluster is up; run: python3 -m devcluster up")
    print(f"{'KServe':<24} {binaries.KSERVE.version}, Standard mode")
    print(f"{'node':<24} Ready at {layout.node_ip}\n{'kubeconfig':<24} {layout.kubeconfig}")


def kubeconfig() -> None:
    named = external.kubeconfig()
    layout = Layout.from_environment()
    if named is None and not layout.kubeconfig.exists():
        raise DevclusterError("no cluster is up; run: python3 -m devcluster up")
    print(named or layout.kubeconfig)


def build_image(added: Sequence[str], name: str) -> None:
    image.refuse_without_own_cluster()
    if added and name == image.NAME:
        raise DevclusterError(f"{name} is the standard image; give the one with {', '.join(added)} another --name")
    if added and external.kubeconfig() is not None:
        raise DevclusterError(
            f"no image can be loaded into {external.VARIABLE}'s cluster; push one with a name of its own"
        )
    ensure_cluster()
    layout = Layout.from_environment() if external.kubeconfig() is None else None
    print(image.ensure(layout, name, added))


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(
        prog="python3 -m devcluster", description="A real single-node Kubernetes for development and tests."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    parsers = {name: commands.add_parser(name, help=text) for name, text in _COMMANDS.items()}
    parsers["image"].add_argument("--with", dest="added", nargs="+", default=[], metavar="REQUIREMENT",
                                  help="a layer more, for models with other requirements; with --name")  # fmt: skip
    parsers["image"].add_argument("--name", default=image.NAME, help=f"the image's name (default {image.NAME})")
    arguments = parser.parse_args()
    run: dict[str, Callable[[], None]] = {
        "up": up, "down": down, "status": status, "kubeconfig": kubeconfig,
        "image": lambda: build_image(arguments.added, arguments.name),
    }  # fmt: skip
    try:
        run[arguments.command]()
    except DevclusterError as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("devcluster: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
