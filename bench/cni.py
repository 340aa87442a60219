"""Measure netkit-cni beside the reference plugins of CNI:  python -m bench.cni [--repeats N].

ADD and DEL of one container each, in a namespace of its own, of netkit by netkitd, and of bridge
with host-local and portmap; with 1 and with 100 published ports, the ways in turn.  Figures are
wall time in ms, medians, as a runtime waits for them: all plugins of the list, one after the other.
Needs root, and script/podman, which has the reference plugins.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netkit.frontends.cni import program
from netkit.kernel import netns
from tests.engine.daemon import Engine
from tests.engine.wire import Wire
from tests.places import ROOT

PORTS = (1, 100)
FIRST_PORT = 20000
AIM = 0.5  # of the reference plugins' wall time
Json = dict[str, Any]


@dataclass
class Way:
    """A list of plugins in a host's namespace, with the environment they get."""

    name: str
    host: str  # path of the host's namespace
    plugins: Sequence[tuple[Path, Json]]
    environment: Mapping[str, str]
    times: dict[str, list[float]] = field(default_factory=dict)  # ms, by what was measured

    def pod(self, ports: int) -> tuple[float, float]:
        """One container's life: what ADD took, and DEL, in ms."""
        id, path = secrets.token_hex(32), f"/run/netns/nk-b-{secrets.token_hex(4)}"
        netns.create(path)
        env = {**self.environment, "CNI_CONTAINERID": id, "CNI_NETNS": path, "CNI_IFNAME": "eth0",
               "PATH": os.environ["PATH"]}  # fmt: skip
        runtime = {"portMappings": [
            {"hostPort": FIRST_PORT + n, "containerPort": 1000 + n, "protocol": "tcp"}
            for n in range(ports)
        ]}  # fmt: skip
        try:
            results: list[Json] = []
            begin = time.perf_counter()
            for plugin, conf in self.plugins:
                given = {**conf, "runtimeConfig": runtime}
                given |= {"prevResult": results[-1]} if results else {}
                results.append(self._call(plugin, {**env, "CNI_COMMAND": "ADD"}, given))
            added = time.perf_counter()
            for plugin, conf in reversed(self.plugins):
                given = {**conf, "runtimeConfig": runtime, "prevResult": results[-1]}
                self._call(plugin, {**env, "CNI_COMMAND": "DEL"}, given)
            done = time.perf_counter()
        finally:
            netns.remove(path)
        return (added - begin) * 1000, (done - added) * 1000

    def measure(self, ports: int) -> None:
        for what, took in zip(("ADD", "DEL"), self.pod(ports), strict=True):
            self.times.setdefault(f"{what}, {ports} ports", []).append(took)

    def _call(self, plugin: Path, env: Mapping[str, str], conf: Json) -> Json:
        with netns.inside(self.host):
            process = subprocess.Popen(
                [plugin], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(env)
            )
        output, _ = process.communicate(json.dumps(conf).encode())
        if process.returncode:
            raise RuntimeError(f"{plugin.name}: {output.decode()}")
        return dict(json.loads(output)) if output else {}


@contextmanager
def netkits(folder: Path) -> Iterator[Way]:
    with ExitStack() as stack:
        wire = Wire.lay(prefix="nk-b")
        stack.callback(wire.remove)
        engine = Engine(wire)
        stack.callback(engine.destroy)
        engine.start()
        subprocess.run(
            [sys.executable, program.__file__, "--install", folder],
            check=True, stdout=subprocess.DEVNULL, env={},
        )  # fmt: skip
        conf: Json = {"cniVersion": "1.0.0", "name": "bench", "type": "netkit",
                      "subnet": "10.66.0.0/16", "capabilities": {"portMappings": True}}
        plugins = [(folder / "netkit", conf)]
        env = {"NETKIT_HOST": engine.host}
        yield Way("netkit", f"/run/netns/{wire.host}", plugins, env)


@contextmanager
def references(plugins: Path, folder: Path) -> Iterator[Way]:
    with ExitStack() as stack:
        wire = Wire.lay(prefix="nk-b")
        stack.callback(wire.remove)
        ipam = {"type": "host-local", "dataDir": str(folder / "leases"),
                "ranges": [[{"subnet": "10.66.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}
        common: Json = {"cniVersion": "1.0.0", "name": "bench"}
        bridge: Json = {**common, "type": "bridge", "bridge": "cni-bench", "isGateway": True,
                  "ipMasq": True, "hairpinMode": True, "ipam": ipam}  # fmt: skip
        portmap: Json = {**common, "type": "portmap", "capabilities": {"portMappings": True}}
        chain = [(plugins / "bridge", bridge), (plugins / "portmap", portmap)]
        env = {"CNI_PATH": str(plugins)}
        yield Way("bridge + portmap", f"/run/netns/{wire.host}", chain, env)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.cni", description=__doc__)
    parser.add_argument("--repeats", type=int, default=31, help="of each figure")
    parser.add_argument("--plugins", type=Path, default=ROOT / ".podman/usr/lib/cni",
                        help="folder of the reference plugins")  # fmt: skip
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench.cni: needs root for network namespaces", file=sys.stderr)
        return 1
    if not (options.plugins / "portmap").exists():
        print(f"bench.cni: no portmap in {options.plugins}: run script/podman", file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="nk-b"))
    try:
        with netkits(folder) as ours, references(options.plugins, folder) as theirs:
            for ports in PORTS:
                for way in (ours, theirs):
                    way.pod(ports)  # the network is made
                for _ in range(options.repeats):
                    ours.measure(ports)
                    theirs.measure(ports)
    finally:
        shutil.rmtree(folder)
    print(table(ours, theirs))
    return 0


def table(ours: Way, theirs: Way) -> str:
    lines = [f"{'ms':<16}{ours.name:>10}{theirs.name:>20}{'ratio':>8}   aim {AIM} at most"]
    for what, times in ours.times.items():
        mine, other = (statistics.median(t) for t in (times, theirs.times[what]))
        lines.append(f"{what:<16}{mine:>10.1f}{other:>20.1f}{mine / other:>8.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
