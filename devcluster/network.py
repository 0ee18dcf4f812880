"""Decides how pods and the host see each other: one bridge whose own address is the node IP and the pods' gateway.

No NAT, no iptables: pods reach each other on the bridge and the host by the node IP, the host reaches pods by
their IP. Pods have no way to the internet. Kernel settings that kubelet or CNI change are remembered and put back.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
import socket
import subprocess
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.layout import INSTANCE_VARIABLE, Layout
from devcluster.packages import require_program

_CNI_RESULTS = Path("/var/lib/cni/results")
#: What kubelet (container manager) and the CNI bridge plugin write; see their sources.
_SYSCTLS = (
    "net/ipv4/ip_forward", "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
)  # fmt: skip


def _ip(*arguments: str, check: bool = True) -> str:
    done = subprocess.run([require_program("ip"), *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise DevclusterError(f"ip {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def create(layout: Layout) -> None:
    """Make the bridge with the node's address, and the CNI configuration that hangs pods on it."""
    _refuse_overlap(layout)
    if not Path("/sys/class/net", layout.bridge).exists():
        _ip("link", "add", layout.bridge, "type", "bridge")
    # A fixed MAC address: a bridge otherwise takes its lowest port's, and changes it whenever a pod comes or goes.
    _ip("link", "set", layout.bridge, "address", f"02:13:d5:00:00:{layout.instance:02x}", "up")
    _ip("addr", "replace", f"{layout.node_ip}/24", "dev", layout.bridge)
    if layout.has_proxy:  # nftables rewrites a cluster IP only after a route was found, and there may be no default one
        _ip("route", "replace", layout.service_subnet, "dev", layout.bridge)
    directory = layout.run_dir / "cni.d"
    directory.mkdir(parents=True, exist_ok=True)
    bridge = {
        "type": "bridge", "bridge": layout.bridge, "isGateway": True, "isDefaultGateway": True, "ipMasq": False,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "dataDir": f"{layout.run_dir}/cni", "ranges": [[{"subnet": layout.pod_subnet}]]},
    }  # fmt: skip
    configuration = {"cniVersion": "0.4.0", "name": layout.name, "plugins": [bridge]}
    (directory / "10-bridge.conflist").write_text(json.dumps(configuration, indent=2))


def _refuse_overlap(layout: Layout) -> None:
    ours = ipaddress.ip_network(layout.pod_subnet)
    for interface in json.loads(_ip("-j", "-4", "addr", "show")):
        for address in interface.get("addr_info", []):
            network = ipaddress.ip_network(f"{address['local']}/{address['prefixlen']}", strict=False)
            if interface["ifname"] != layout.bridge and network.overlaps(ours):
                raise DevclusterError(
                    f"interface {interface['ifname']} uses {network}, which the pods need; set {INSTANCE_VARIABLE}"
                )


def refuse_used_ports(layout: Layout) -> None:
    """Stop before anything is started when another program listens on one of the cluster's ports."""
    for port in layout.ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError as error:
                raise DevclusterError(
                    f"port {port} is used by another program; end it, or set {INSTANCE_VARIABLE} to 1 … 9"
                ) from error


def remove(layout: Layout) -> None:
    """Remove the bridge, the pods' ends on it, and what CNI keeps outside the run directory."""
    ports = Path("/sys/class/net", layout.bridge, "brif")
    if ports.is_dir():
        for port in list(ports.iterdir()):
            _ip("link", "del", port.name, check=False)  # it may go by itself, with its pod's network namespace
        _ip("link", "del", layout.bridge, check=False)
    for result in _CNI_RESULTS.glob(f"{layout.name}-*"):
        result.unlink(missing_ok=True)
    for loopback in _CNI_RESULTS.glob("cni-loopback-*"):
        if str(layout.run_dir) in loopback.read_text(errors="replace"):
            loopback.unlink(missing_ok=True)
    remove_empty(_CNI_RESULTS, _CNI_RESULTS.parent)


def remove_empty(*directories: Path) -> None:
    """Remove directories that others may use as well, as long as they are empty."""
    for directory in directories:
        try:
            directory.rmdir()
        except OSError:
            continue


def remember_sysctls(layout: Layout) -> None:
    """Write down the kernel settings as they are before anything of the cluster changes them."""
    values = {name: path.read_text().strip() for name in _SYSCTLS if (path := Path("/proc/sys", name)).exists()}
    (layout.run_dir / "sysctls.json").write_text(json.dumps(values))


def restore_sysctls(layout: Layout) -> None:
    """Put the remembered kernel settings back."""
    try:
        values: dict[str, str] = json.loads((layout.run_dir / "sysctls.json").read_text())
    except (FileNotFoundError, ValueError):
        return
    for name, value in values.items():
        path = Path("/proc/sys", name)
        if path.read_text().strip() != value:
            path.write_text(value)


def host_address_towards(host: str, port: int) -> str:
    """Find the address of this machine that packets to ``host`` carry; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))
        return str(probe.getsockname()[0])


def remove_tree(directory: Path) -> None:
    """Unmount everything below a directory, deepest first, and remove it."""
    for mountpoint in sorted(_mounts_below(directory), key=len, reverse=True):
        subprocess.run([require_program("umount"), "-l", mountpoint], capture_output=True, check=False)
    if left := _mounts_below(directory):
        raise DevclusterError(f"{left[0]} cannot be unmounted, so {directory} stays")
    if directory.exists():
        shutil.rmtree(directory)


def _mounts_below(directory: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split(" ")[4].encode().decode("unicode_escape") for line in lines]
    return [p for p in points if p == str(directory) or p.startswith(f"{directory}/")]
