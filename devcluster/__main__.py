"""The command line: ``python3 -m devcluster up | down | status | kubeconfig | image``.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 the state says no, 2 usage or something
is missing.
"""

from __future__ import annotations

import argparse
import sys

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


def build_image() -> None:
    image.refuse_without_own_cluster()
    print(ensure_cluster(with_image=True).image)


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(
        prog="python3 -m devcluster", description="A real single-node Kubernetes for development and tests."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in _COMMANDS.items():
        commands.add_parser(name, help=text)
    command = parser.parse_args().command
    run = {"up": up, "down": down, "status": status, "kubeconfig": kubeconfig, "image": build_image}[command]
    try:
        run()
    except DevclusterError as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("devcluster: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
