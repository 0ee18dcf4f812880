"""Decides how containerd runs (own root, state, socket, CNI and snapshotter) and how an image gets into it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from devcluster import oci
from devcluster.errors import DevclusterError
from devcluster.layout import Layout
from devcluster.packages import cni_directory, require_program, static_busybox
from devcluster.processes import Service

PAUSE_IMAGE = "mlops.local/pause:dev"
#: A shell and the usual small programs: for tests, and as XCom sidecar where no registry can be reached.
BUSYBOX_IMAGE = "mlops.local/busybox:dev"
_PAUSE = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"
#: containerd 1.6 puts its shims' sockets here, wherever its own state lies.
_SHIM_SOCKETS = Path("/run/containerd/s")
_ADDED_APPLETS = ("sh", "ash")

_CONFIG = """version = 2
root = "{run}/containerd/root"
state = "{run}/containerd/state"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{run}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  disable_apparmor = {disable_apparmor}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_bin}"
    conf_dir = "{run}/cni.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{run}/runc"
"""


def containerd(layout: Layout) -> Service:
    """Write containerd's configuration and say how it starts."""
    config = layout.run_dir / "containerd.toml"
    apparmor = Path("/sys/kernel/security/apparmor/profiles").exists() and shutil.which("apparmor_parser") is not None
    config.write_text(
        _CONFIG.format(
            run=layout.run_dir, pause=PAUSE_IMAGE, cni_bin=cni_directory(), snapshotter=_snapshotter(layout.run_dir),
            disable_apparmor=str(not apparmor).lower(),
        )
    )  # fmt: skip
    return Service("containerd", (require_program("containerd"), "--config", str(config)))


def _snapshotter(run_dir: Path) -> str:
    """Try whether overlayfs can be mounted here: not on every file system, nor in every container."""
    with tempfile.TemporaryDirectory(dir=run_dir, prefix="overlay-") as scratch:
        lower, upper, work, merged = (Path(scratch, name) for name in ("lower", "upper", "work", "merged"))
        for directory in (lower, upper, work, merged):
            directory.mkdir()
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        command = [require_program("mount"), "-t", "overlay", "overlay", "-o", options, str(merged)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return "native"
        subprocess.run([require_program("umount"), str(merged)], capture_output=True, check=True)
        return "overlayfs"


def ctr(layout: Layout, *arguments: str, timeout_seconds: float = 300) -> str:
    """Run one containerd client command in Kubernetes' namespace and return what it prints."""
    command = [require_program("ctr"), "--address", str(layout.containerd_socket), "--namespace", "k8s.io", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_seconds)
    if done.returncode != 0:
        raise DevclusterError(f"ctr {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def load(layout: Layout, image: oci.Image) -> bool:
    """Bring an image into containerd; nothing is copied that is there already. Return whether anything was done."""
    for line in ctr(layout, "images", "ls", f"name=={image.name}").splitlines()[1:]:
        if image.digest in line.split():
            return False
    present = set(ctr(layout, "content", "ls", "--quiet").split())
    try:
        _import(layout, image, present)
    except DevclusterError:  # what was listed may have been garbage, collected meanwhile
        _import(layout, image, set())
    return True


def _import(layout: Layout, image: oci.Image, present: set[str]) -> None:
    with tempfile.NamedTemporaryFile(dir=layout.run_dir, prefix="image-") as archive:
        oci.write_archive(image, archive, present=present)
        archive.flush()
        ctr(layout, "images", "import", "--snapshotter", _configured_snapshotter(layout), archive.name)


def _configured_snapshotter(layout: Layout) -> str:
    text = (layout.run_dir / "containerd.toml").read_text()
    return text.partition('snapshotter = "')[2].partition('"')[0]


def load_base_images(layout: Layout) -> None:
    """Load the pause image, without which no pod starts, and the busybox image."""
    busybox = static_busybox()
    if busybox is None:
        raise DevclusterError("busybox-static is not installed")
    with tempfile.TemporaryDirectory(dir=layout.run_dir, prefix="busybox-") as scratch:
        root = Path(scratch)
        for directory in ("bin", "etc", "tmp"):
            (root / directory).mkdir()
        (root / "tmp").chmod(0o1777)
        root.chmod(0o755)
        shutil.copy(busybox, root / "bin" / "busybox")
        applets = subprocess.run([str(busybox), "--list"], capture_output=True, text=True, check=True).stdout.split()
        for applet in {*applets, *_ADDED_APPLETS} - {"busybox"}:
            (root / "bin" / applet).symlink_to("busybox")
        (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\n")
        layer = oci.pack(root, layout.run_dir / "layers", "busybox")
    env = ["PATH=/bin"]
    load(
        layout,
        oci.compose(PAUSE_IMAGE, [layer], {"Entrypoint": ["/bin/sh", "-c", _PAUSE], "Env": env, "User": "65534"}),
    )
    load(layout, oci.compose(BUSYBOX_IMAGE, [layer], {"Cmd": ["/bin/sh"], "Env": env}))


def remove_shim_sockets(layout: Layout) -> None:
    """Remove the sockets of shims that were killed; each task's bundle says where its own is."""
    for address in layout.run_dir.glob("containerd/state/io.containerd.runtime.v2.task/*/*/address"):
        socket = Path(address.read_text().strip().removeprefix("unix://"))
        if socket.parent == _SHIM_SOCKETS:
            socket.unlink(missing_ok=True)
    for directory in (_SHIM_SOCKETS, _SHIM_SOCKETS.parent):
        try:
            directory.rmdir()
        except OSError:
            continue
