"""Measure images and builds beside dockerd, buildah and skopeo:  python -m bench.images [--quick].

Pull and push of a large image on loopback, builds cold and cached, steps that do nothing, commit,
save, load, and a start from many layers; and how far the daemon's memory rises.  Every peer is in a
namespace of its own with its own registry (Debian's docker-registry, on the same folder); they are
measured in turn.  Needs root, docker-registry, skopeo; peers that are not there are left out.

Environment: NETKIT_TEST_DOCKERD, NETKIT_BENCH_DOCKERD_NEW (roots of unpacked packages),
NETKIT_BENCH_BUILDAH (root of an unpacked buildah).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.image_content import QUICK, Scale, archive, context
from bench.image_measures import MEASURES, REGISTRY, Sample, Tool, storage_flags
from bench.measures import Measure
from bench.table import Row, render
from tests.engine import image
from tests.engine.daemon import DOCKER, Engine
from tests.engine.wire import Wire, inside

REGISTRY_CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}
http: {{addr: "{address}"}}
"""


# the peers


@contextmanager
def _registry(netns: str, folder: Path) -> Iterator[None]:
    config = folder / "registry.yml"
    config.write_text(REGISTRY_CONFIG.format(folder=folder / "registry", address=REGISTRY))
    process = subprocess.Popen(
        inside(netns, "docker-registry", "serve", str(config)),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(200):
            probe = ["curl", "-sf", "-o", "/dev/null", f"http://{REGISTRY}/v2/"]
            if subprocess.run(inside(netns, *probe), check=False).returncode == 0:
                break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _tool(name: str, folder: Path) -> Iterator[Tool]:
    with ExitStack() as stack:
        wire = Wire.lay(prefix="nk-b")
        stack.callback(wire.remove)
        stack.enter_context(_registry(wire.host, folder))
        hidden = ("DOCKER_", "NETKIT_")
        env = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        if name in {"skopeo", "buildah"}:
            if root := os.environ.get("NETKIT_BENCH_BUILDAH"):
                env["PATH"] = f"{root}/usr/bin:{env['PATH']}"
            tool = Tool(name, wire.host, env)
            if name == "buildah":
                _preparestorage_flags(tool, folder)
                stack.callback(_umount, folder / "buildah")
            yield tool
            return
        if name == "dockerd 28":
            os.environ["NETKIT_TEST_DOCKERD"] = os.environ["NETKIT_BENCH_DOCKERD_NEW"]
        engine = Engine(wire, kind="netkitd" if name == "netkit" else "dockerd")
        stack.callback(engine.destroy)
        engine.start()
        engine.load_image()
        env |= {"DOCKER_CONFIG": str(engine.config), "DOCKER_BUILDKIT": "0"}
        yield Tool(name, wire.host, env, (DOCKER, "-H", engine.host), engine)


def _umount(place: Path) -> None:
    subprocess.run(["umount", "-q", "-l", f"{place}/root/overlay"], check=False)


def _preparestorage_flags(tool: Tool, folder: Path) -> None:
    base = folder / "busybox"
    base.mkdir()
    (base / "rootfs.tar").write_bytes(image.rootfs())
    (base / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\nENV PATH=/bin:/sbin\n")
    tool.run("buildah", *storage_flags(folder), "build", "-q", "-t", "busybox", str(base))


def _available(quick: bool) -> dict[str, str]:
    root = os.environ.get("NETKIT_BENCH_BUILDAH", "")
    search = f"{root}/usr/bin" if root else None
    new = os.environ.get("NETKIT_BENCH_DOCKERD_NEW")
    old = shutil.which("dockerd") or os.environ.get("NETKIT_TEST_DOCKERD")
    return {
        "netkit": "",
        "dockerd": "" if old else "not in PATH nor in NETKIT_TEST_DOCKERD",
        "dockerd 28": "" if new else "NETKIT_BENCH_DOCKERD_NEW is not set",
        "buildah": "" if shutil.which("buildah", path=search) else "not there",
        "skopeo": "" if shutil.which("skopeo") else "not there",
    }


# memory


def _rss(engine: Engine, field: str) -> float:
    """MiB of the daemon's process: VmRSS, or VmHWM, the peak since it was reset."""
    for line in Path(f"/proc/{engine.pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


def _sampled(
    tool: Tool, measure: Measure, sample: Sample, scale: Scale, folder: Path
) -> list[float]:
    idle = 0.0
    if tool.engine is not None:
        Path(f"/proc/{tool.engine.pid}/clear_refs").write_text("5")  # resets VmHWM: proc(5)
        idle = _rss(tool.engine, "VmRSS")
    found = sample(tool, scale, folder) or []
    if tool.engine is not None:
        tool.peaks[measure.name] = _rss(tool.engine, "VmHWM") - idle
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.images", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small, to try it out")
    parser.add_argument("--peers", default="netkit,dockerd,dockerd 28,buildah,skopeo")
    parser.add_argument("--only", default="", help="measures whose name contains this")
    options = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("docker-registry"):
        print("bench: needs root, and docker-registry in PATH", file=sys.stderr)
        return 1
    scale = QUICK if options.quick else Scale()
    missing = _available(options.quick)
    names = [n for n in options.peers.split(",") if not missing.get(n, "unknown")]
    for name in options.peers.split(","):
        if why := missing.get(name, "unknown"):
            print(f"bench: {name} is left out: {why}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="nk-bench.", dir="/var/tmp"))
    try:
        return _measure(names, options.only, scale, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(names: Sequence[str], only: str, scale: Scale, folder: Path) -> int:
    (folder / "big.tar").write_bytes(archive(scale, "big:1"))
    context(folder, scale)
    rows: dict[str, dict[str, list[float]]] = {m.name: {} for m, _ in MEASURES if only in m.name}
    with ExitStack() as stack:
        tools = [stack.enter_context(_tool(name, folder)) for name in names]
        tools[0].run("skopeo", "copy", "--dest-tls-verify=false",
                     f"docker-archive:{folder}/big.tar", f"docker://{REGISTRY}/big:1")  # fmt: skip
        for measure, sample in MEASURES:
            for tool in tools if only in measure.name else ():
                try:
                    samples = _sampled(tool, measure, sample, scale, folder)
                except RuntimeError as error:
                    print(f"bench: {measure.name}: {error}", flush=True)
                    samples = []
                rows[measure.name][tool.name] = samples
                if samples:
                    print(f"{measure.name}: {tool.name}: {sorted(samples)[len(samples) // 2]:.3f}",
                          flush=True)  # fmt: skip
        table = [Row(m, rows[m.name]) for m, _ in MEASURES if m.name in rows]
        print("\n" + render(table, names))
        print("\nthe daemon's peak over idle, MiB")
        for tool in tools:
            if tool.peaks:
                shown = ", ".join(f"{k}: {v:.0f}" for k, v in tool.peaks.items())
                print(f"  {tool.name}: {shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
