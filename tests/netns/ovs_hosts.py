"""Several hosts, each with an Open vSwitch and a netkit of its own, on one underlay.

h1 eth0 10.9.0.1 --+
h2 eth0 10.9.0.2 --+-- bridge wire, in a namespace of its own; its port u1, u2 ... sees all of h1's
...                      packets as they are on the way
"""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from netkit.driver import Driver
from netkit.kernel import netns
from netkit.kernel.host import Host as Kernel
from netkit.kernel.ovs.ovsdb import Ovsdb
from netkit.kernel.ovs.watch import OvsWatch
from netkit.lab.openvswitch import OpenVSwitch
from netkit.network.controller import Controller
from netkit.reconcile.converge import ownership
from netkit.reconcile.queue import ReconcileQueue
from netkit.reconcile.resync import ResyncLoop
from netkit.spec import EndpointRecord, EndpointSpec, NetworkSpec, PortSpec, Sandbox, SubnetSpec
from netkit.store import Database
from plugins.bridge import Bridge
from plugins.firewall.iptables import Iptables
from plugins.host import Host as HostDriver
from plugins.none import Null
from plugins.ovs import Ovs
from runtime.daemon.ovs_resync import OvsRepairs
from tests.netns.home_ports import HomePorts

ETH_P_ALL = 3


@dataclass
class Sniffed:
    """Frames seen on an interface, from before `listening` was entered until it was left."""

    frames: list[bytes] = field(default_factory=list)


@dataclass
class OvsHost:
    name: str
    number: int
    wire: str  # the namespace of the underlay
    vswitch: OpenVSwitch
    database: Ovsdb
    kernel: Kernel
    worker: ReconcileQueue
    net: Controller
    guard: ResyncLoop
    boxes: dict[str, EndpointRecord] = field(default_factory=dict)

    @property
    def home(self) -> str:
        return f"/run/netns/{self.name}"

    @property
    def ip(self) -> str:
        return f"10.9.0.{self.number}"

    @property
    def port(self) -> str:
        return f"u{self.number}"

    def ns(self, box: str) -> str:
        return f"/run/{self.name}/{box}"

    def create(self, name: str, subnet: str, *, internal: bool = False, **options: str) -> None:
        gateway, driver = options.pop("gateway", ""), options.pop("driver", "ovs")
        spec = SubnetSpec(subnet=subnet, gateway=gateway)
        self.net.create(
            NetworkSpec(
                name=name, driver=driver, subnets=(spec,), options=options, internal=internal
            )
        )

    def open(
        self,
        box: str,
        network: str,
        ip: str = "",
        *,
        mac: str = "",
        ports: tuple[PortSpec, ...] = (),
    ) -> EndpointRecord:
        sandbox = Sandbox(id=box.encode().hex().ljust(64, "0"), name=box, ns=self.ns(box))
        want = EndpointSpec(network=self.net.find(network).id, ip=ip, mac=mac)
        (record,) = self.net.open(sandbox, [want], ports)
        self.boxes[box] = record
        return record

    def close_all(self) -> None:
        for e in self.net.endpoints():
            self.net.close(e.sandbox)


def run(*argv: str, at: str = "") -> str:
    command = ["nsenter", f"--net={at}", *argv] if at else list(argv)
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


@contextmanager
def hosts(
    count: int, folder: Path, *, programs: str = "", more: Callable[[int], Driver] | None = None
) -> Iterator[list[OvsHost]]:
    """`programs`: a folder with those of another Open vSwitch.  `more`: one more driver, by the
    number of a host, which is its engine's id then."""
    tag = f"nk-{secrets.token_hex(3)}"
    wire = f"/run/netns/{tag}w"
    out: list[OvsHost] = []
    netns.create(wire)
    try:
        run("ip", "link", "add", "wire", "type", "bridge", at=wire)
        run("ip", "link", "set", "wire", "up", at=wire)
        for n in range(1, count + 1):
            out.append(_host(f"{tag}h{n}", n, wire, folder, programs, more))
        yield out
    finally:
        for h in out:
            with suppress(Exception):
                h.close_all()
            h.guard.close()
            h.worker.close()
            h.kernel.close()
            h.database.close()
            h.vswitch.remove()
            for path in (*netns.inside_folder(f"/run/{h.name}"), h.home):
                netns.remove(path)
            shutil.rmtree(f"/run/{h.name}", ignore_errors=True)
        netns.remove(wire)


def _host(
    name: str, n: int, wire: str, folder: Path, programs: str, more: Callable[[int], Driver] | None
) -> OvsHost:
    engine = str(n) if more else "0"
    home = f"/run/netns/{name}"
    netns.create(home)
    far = ("type", "veth", "peer", "name", "eth0", "netns", home)
    run("ip", "link", "add", f"u{n}", *far, at=wire)
    run("ip", "link", "set", f"u{n}", "master", "wire", "up", at=wire)
    run("ip", "addr", "add", f"10.9.0.{n}/24", "dev", "eth0", at=home)
    run("ip", "link", "set", "eth0", "up", at=home)
    vswitch = OpenVSwitch(home, Path(tempfile.mkdtemp(prefix="nk.", dir="/tmp")), programs=programs)
    vswitch.start()
    database = Ovsdb(vswitch.remote)
    kernel = Kernel(home, namespaces=f"/run/{name}", variant="nft", ovs=database, engine=engine)
    worker = ReconcileQueue(kernel, ownership(engine, f"/run/{name}"), kernel.ready)
    ports = HomePorts(home)
    drivers: dict[str, Driver] = {
        "bridge": Bridge(), "host": HostDriver(), "null": Null(), "ovs": Ovs("netdev")
    }  # fmt: skip
    if more:
        extra = more(n)
        drivers[extra.name] = extra
    rows = Database(folder / name)
    net = Controller(rows, worker, drivers, Iptables(), engine=engine, ports=ports)
    net.start()
    watch = OvsWatch(database, kernel.vswitchd)
    kernel.ovn.changed = watch.hint
    guard = ResyncLoop(OvsRepairs(net, kernel, database), watch, "Open vSwitch")
    return OvsHost(name, n, wire, vswitch, database, kernel, worker, net, guard)


# -- probes --------------------------------------------------------------------


@contextmanager
def listening(ns: str, dev: str, *, after: float = 0.4) -> Iterator[Sniffed]:
    """Capture what passes `dev`, in both directions, until `after` seconds after the block."""
    s = netns.open_socket(ns, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    s.bind((dev, ETH_P_ALL))
    s.settimeout(0.05)
    seen, over = Sniffed(), threading.Event()

    def collect() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                seen.frames.append(s.recv(65535))

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        yield seen
        time.sleep(after)
    finally:
        over.set()
        thread.join()
        s.close()


def send(ns: str, frame: bytes, dev: str = "eth0", times: int = 1) -> None:
    with netns.open_socket(ns, socket.AF_PACKET, socket.SOCK_RAW, 0) as s:
        s.bind((dev, 0))
        for _ in range(times):
            s.send(frame)


def reaches(ns: str, ip: str, *, seconds: float = 30.0, size: int = 56) -> bool:
    """Return whether one of several pings is answered; the first ones wait for ARP twice."""
    deadline = time.monotonic() + seconds
    while True:
        argv = ["nsenter", f"--net={ns}", "busybox", "ping", "-c", "1", "-W", "1",
                "-s", str(size), ip]  # fmt: skip
        if subprocess.run(argv, capture_output=True, timeout=60).returncode == 0:
            return True
        if time.monotonic() > deadline:
            return False


def transfer(server: str, client: str, ip: str, amount: int) -> float:
    """Return the bytes a second of one TCP flow; fail unless all arrive."""
    with netns.inside(server):
        listener = socket.create_server((ip, 7000))
    got: list[int] = []

    def receive() -> None:
        peer, _ = listener.accept()
        with peer:
            total = 0
            while chunk := peer.recv(1 << 16):
                total += len(chunk)
            got.append(total)

    thread = threading.Thread(target=receive)
    thread.start()
    begin = time.monotonic()
    with netns.inside(client), socket.create_connection((ip, 7000), 5) as s:
        s.sendall(bytes(amount))
    thread.join(20)
    listener.close()
    assert got == [amount]
    return amount / (time.monotonic() - begin)
