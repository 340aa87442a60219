"""Paths between two namespaces: a plain veth, VXLAN by hand, the sleeve, overlays of others.

Those of others are programs of unpacked Debian packages (nebula, wireguard-go and wireguard-tools,
tinc, fastd) in the folder that NETKIT_BENCH_OVERLAYS names: nothing of them is installed.  Each
end of a path is in its own namespace; the two are joined by a veth.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from netkit.kernel import netns
from netkit.overlay.sleeve import tap
from netkit.overlay.sleeve.plane import Plane
from netkit.overlay.sleeve.sockets import Pair
from netkit.overlay.sleeve.tables import PutPeer, PutSession
from plugins.weave.driver import LONGEST_FRAME

HERE, THERE = "10.98.0.1", "10.98.0.2"  # of the overlay
OUTER = ("10.99.0.1", "10.99.0.2")
DEVICE = "ov0"
MACS = (bytes.fromhex("02000a620001"), bytes.fromhex("02000a620002"))
UP = 20.0  # seconds


@dataclass
class Underlay:
    names: tuple[str, str, str]  # of the ends, and of what may be between them
    mtu: int
    folder: Path
    pids: list[int] = field(default_factory=list)  # of the path that is up: its own processes
    whole: bool = True  # False: it loses datagrams
    device: str = "ov0"  # at the far end, of the path that is up
    inside: tuple[str, str] = ("", "")  # files of the ends' namespaces, where they are others

    def run(self, end: int, *argv: str, inside: bool = False) -> str:
        """In the namespace of the underlay, or that of the path's end."""
        place = self.end(end) if inside else self.file(end)
        done = subprocess.run(
            ["nsenter", f"--net={place}", *argv],
            capture_output=True, text=True, check=False, timeout=30, env=environment(),
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)}: {done.stdout}{done.stderr}")
        return done.stdout

    def arrived(self) -> tuple[int, int]:
        """(packets, bytes) that came out of the path at the far end, so far."""
        argv = ("ip", "-j", "-s", "link", "show", "dev", self.device)
        links = json.loads(self.run(1, *argv, inside=True))
        received = links[0]["stats64"]["rx"]
        return received["packets"], received["bytes"]

    def file(self, end: int) -> str:
        return f"/run/netns/{self.names[end]}"

    def end(self, end: int) -> str:
        """The namespace that flows begin and end in."""
        return self.inside[end] or self.file(end)

    def begin(self, stack: ExitStack, end: int, *argv: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ["nsenter", f"--net={self.file(end)}", *argv],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(),
        )  # fmt: skip
        stack.callback(_ended, process)
        self.pids.append(process.pid)
        return process

    def address(self, end: int, mtu: int) -> None:
        self.run(end, "ip", "addr", "add", f"{(HERE, THERE)[end]}/24", "dev", DEVICE)
        self.run(end, "ip", "link", "set", "dev", DEVICE, "mtu", str(mtu), "up")


Way = Callable[[Underlay], AbstractContextManager[None]]


def environment() -> dict[str, str]:
    made = dict(os.environ)
    if folder := made.get("NETKIT_BENCH_OVERLAYS"):
        made["LD_LIBRARY_PATH"] = f"{folder}/usr/lib/x86_64-linux-gnu:{folder}/lib/x86_64-linux-gnu"
        places = [f"{folder}/{each}" for each in ("usr/bin", "usr/sbin", "bin", "sbin")]
        made["PATH"] = ":".join([*places, made["PATH"], "/usr/sbin", "/sbin"])
    return made


def found(program: str) -> bool:
    return shutil.which(program, path=environment()["PATH"]) is not None


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def underlay(mtu: int = 1500, *, cut: bool = False, loss: bool = False) -> Iterator[Underlay]:
    """`cut`: no packet is longer than the MTU on the way; `loss`: one in a hundred is lost.

    The ends join what they receive, as with a NIC; where packets are lost, they are single ones.
    """
    tag = secrets.token_hex(3)
    names = [f"nk-bo-{tag}-{each}" for each in "abw"]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="nk-bench-"))
        for name in names:
            netns.create(f"/run/netns/{name}")
            stack.callback(netns.remove, f"/run/netns/{name}")
        made = Underlay((names[0], names[1], names[2]), mtu, Path(folder), whole=not loss)
        if loss:
            _lossy_wire(made)
        else:
            made.run(0, "ip", "link", "add", "u0", "mtu", str(mtu), "type", "veth",
                     "peer", "name", "u0", "netns", names[1])  # fmt: skip
        for end in (0, 1):
            made.run(end, "ip", "link", "set", "lo", "up")
            made.run(end, "ip", "link", "set", "u0", "mtu", str(mtu), "up")
            made.run(end, "ip", "addr", "add", f"{OUTER[end]}/24", "dev", "u0")
            if cut or loss:
                made.run(end, "ethtool", "-K", "u0", *CUT, "gro", "on")
        yield made


CUT = ("tso", "off", "gso", "off", "tx-udp-segmentation", "off")
WIRE = 2  # the end that is none


def _lossy_wire(made: Underlay) -> None:
    made.run(WIRE, "ip", "link", "add", "wire", "mtu", str(made.mtu), "type", "bridge")
    for end in (0, 1):
        made.run(WIRE, "ip", "link", "add", f"w{end}", "mtu", str(made.mtu), "type", "veth",
                 "peer", "name", "u0", "netns", made.names[end])  # fmt: skip
        made.run(WIRE, "ethtool", "-K", f"w{end}", *CUT, "gro", "off")
        made.run(WIRE, "ip", "link", "set", "dev", f"w{end}", "master", "wire", "up")
    made.run(WIRE, "ip", "link", "set", "dev", "wire", "up")
    made.run(WIRE, "nft", "add table bridge loss")
    hook = "{ type filter hook forward priority 0 ; }"
    made.run(WIRE, "nft", f"add chain bridge loss c {hook}")
    made.run(WIRE, "nft", "add rule bridge loss c numgen random mod 100 < 1 drop")


# paths


@contextmanager
def veth(at: Underlay) -> Iterator[None]:
    for end, inner in enumerate((HERE, THERE)):
        at.run(end, "ip", "addr", "add", f"{inner}/24", "dev", "u0")
    at.device = "u0"
    yield
    for end, inner in enumerate((HERE, THERE)):
        at.run(end, "ip", "addr", "del", f"{inner}/24", "dev", "u0")


@contextmanager
def vxlan(at: Underlay) -> Iterator[None]:
    for end in (0, 1):
        at.run(end, "ip", "link", "add", DEVICE, "type", "vxlan", "id", "42", "local", OUTER[end],
               "remote", OUTER[1 - end], "dstport", "4789")  # fmt: skip
        at.address(end, at.mtu - 50)
    yield
    for end in (0, 1):
        at.run(end, "ip", "link", "del", DEVICE)


def sleeve(*, sealed: bool) -> Way:
    @contextmanager
    def path(at: Underlay) -> Iterator[None]:
        keys = [os.urandom(32) if sealed else b"" for _ in range(2)]
        with ExitStack() as stack:
            for end in (0, 1):
                _sleeve_end(at, stack, end, keys)
            yield
        for end in (0, 1):
            at.run(end, "ip", "link", "del", DEVICE)

    return path


def _sleeve_end(at: Underlay, stack: ExitStack, end: int, keys: list[bytes]) -> None:
    other = 1 - end
    at.run(end, "ip", "tuntap", "add", DEVICE, "mode", "tap", "vnet_hdr")
    with netns.inside(at.file(end)):
        pair, file = Pair(OUTER[end], 6783), tap.attach(DEVICE)
    stack.callback(pair.close)
    plane = Plane(pair)
    stack.callback(plane.close)
    at.pids.extend(plane.pids.values())
    plane.put_network(5, file)
    put = PutPeer(peer=1, address=OUTER[other], port=6783, index=other + 1, key=keys[end],
                  size=at.mtu - 28, whole=at.whole)  # fmt: skip
    plane.put_peer(put)
    plane.put_session(PutSession(index=end + 1, peer=1, key=keys[other], address=OUTER[other]))
    plane.put_host(5, MACS[other], 1, [ip_address((HERE, THERE)[other])])
    plane.members(5, [1])
    at.run(end, "ip", "link", "set", "dev", DEVICE, "address", MACS[end].hex(":"))
    at.run(end, "ip", "link", "set", "dev", DEVICE, "gso_max_size", str(LONGEST_FRAME))
    at.address(end, at.mtu - 100)


@contextmanager
def wireguard(at: Underlay) -> Iterator[None]:
    """By wireguard-go, in user space: on most kernels WireGuard itself is faster."""
    names = [f"nkwg{secrets.token_hex(2)}" for _ in range(2)]
    pairs = []
    for _ in names:
        key = _output("wg", "genkey").strip()
        pairs.append((key, _output("wg", "pubkey", text=key).strip()))
    with ExitStack() as stack:
        for end, name in enumerate(names):
            at.begin(stack, end, "wireguard-go", "-f", name)
            _until(lambda name=name: Path(f"/run/wireguard/{name}.sock").exists())  # type: ignore[misc]
        for end, name in enumerate(names):
            file = at.folder / name
            file.write_text(pairs[end][0])
            at.run(end, "wg", "set", name, "private-key", str(file), "listen-port", "51820",
                   "peer", pairs[1 - end][1], "allowed-ips", "10.98.0.0/24",
                   "endpoint", f"{OUTER[1 - end]}:51820")  # fmt: skip
            at.run(end, "ip", "addr", "add", f"{(HERE, THERE)[end]}/24", "dev", name)
            at.run(end, "ip", "link", "set", "dev", name, "mtu", str(at.mtu - 80), "up")
        at.device = names[1]
        yield


@contextmanager
def nebula(at: Underlay) -> Iterator[None]:
    folder = at.folder / f"nebula{secrets.token_hex(2)}"
    folder.mkdir()
    _output("nebula-cert", "ca", "-name", "ov", cwd=folder)
    with ExitStack() as stack:
        for end, inner in enumerate((HERE, THERE)):
            _output("nebula-cert", "sign", "-name", str(end), "-ip", f"{inner}/24", cwd=folder)
            text = NEBULA.format(
                folder=folder, end=end, here=HERE, there=THERE, a=OUTER[0], b=OUTER[1],
                first=str(not end).lower(), device=DEVICE, mtu=at.mtu - 70,
                hosts="[]" if not end else f"['{HERE}']",
            )  # fmt: skip
            (folder / f"{end}.yml").write_text(text)
            at.begin(stack, end, "nebula", "-config", str(folder / f"{end}.yml"))
        yield


NEBULA = """
pki: {{ca: {folder}/ca.crt, cert: {folder}/{end}.crt, key: {folder}/{end}.key}}
static_host_map: {{"{here}": ["{a}:4242"], "{there}": ["{b}:4242"]}}
lighthouse: {{am_lighthouse: {first}, hosts: {hosts}}}
listen: {{host: 0.0.0.0, port: 4242, batch: 64, read_buffer: 8388608, write_buffer: 8388608}}
cipher: aes
punchy: {{punch: false}}
tun: {{dev: {device}, mtu: {mtu}, tx_queue: 1000}}
firewall:
  outbound: [{{port: any, proto: any, host: any}}]
  inbound: [{{port: any, proto: any, host: any}}]
"""


@contextmanager
def tinc(at: Underlay) -> Iterator[None]:
    folder = at.folder / f"tinc{secrets.token_hex(2)}"
    for end in (0, 1):
        hosts = folder / str(end) / "hosts"
        hosts.mkdir(parents=True)
        name, other = "ab"[end], "ab"[1 - end]
        (folder / str(end) / "tinc.conf").write_text(
            f"Name={name}\nMode=switch\nDeviceType=tap\nInterface={DEVICE}\nConnectTo={other}\n"
        )
        (hosts / name).write_text(f"Address={OUTER[end]} 655\n")
        _output("tincd", "-c", str(folder / str(end)), "-K2048", text="\n\n")
    for end in (0, 1):
        text = (folder / str(end) / "hosts" / "ab"[end]).read_text()
        (folder / str(1 - end) / "hosts" / "ab"[end]).write_text(text)
    with ExitStack() as stack:
        for end in (0, 1):
            place = str(folder / str(end))
            at.begin(stack, end, "tincd", "-D", "-c", place, f"--pidfile={place}/pid")
            _until(lambda end=end: _there(at, end))  # type: ignore[misc]
            at.address(end, at.mtu - 100)
        yield


@contextmanager
def fastd(at: Underlay) -> Iterator[None]:
    folder = at.folder / f"fastd{secrets.token_hex(2)}"
    folder.mkdir()
    keys = []
    for _ in range(2):
        lines = _output("fastd", "--generate-key").splitlines()
        keys.append([line.split()[-1] for line in lines if ":" in line])
    with ExitStack() as stack:
        for end in (0, 1):
            file = folder / f"{end}.conf"
            file.write_text(
                f'mode tap; interface "{DEVICE}"; method "salsa2012+umac";\n'
                f'bind {OUTER[end]}:10000; mtu {at.mtu - 100}; secret "{keys[end][0]}";\n'
                f'peer "o" {{ key "{keys[1 - end][1]}"; remote {OUTER[1 - end]}:10000; }}\n'
            )
            at.begin(stack, end, "fastd", "-c", str(file))
            _until(lambda end=end: _there(at, end))  # type: ignore[misc]
            at.address(end, at.mtu - 100)
            time.sleep(0.6)  # both at once sometimes never meet
        yield


def _there(at: Underlay, end: int) -> bool:
    try:
        at.run(end, "ip", "link", "show", DEVICE)
    except RuntimeError:
        return False
    return True


def _until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + UP
    while not there():
        if time.monotonic() > end:
            raise RuntimeError(f"not up after {UP:.0f} s")
        time.sleep(0.05)


def _output(*argv: str, text: str = "", cwd: Path | None = None) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=60, input=text, cwd=cwd,
        env=environment(),
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr}")
    return done.stdout


@dataclass(frozen=True)
class Kind:
    name: str
    way: Way
    program: str = ""  # that has to be there


OTHERS = (
    Kind("nebula", nebula, "nebula"),
    Kind("wireguard-go", wireguard, "wireguard-go"),
    Kind("tinc", tinc, "tincd"),
    Kind("fastd", fastd, "fastd"),
)
BY_HAND = (
    Kind("veth", veth),
    Kind("VXLAN by hand", vxlan),
)
SLEEVE = (
    Kind("sleeve alone, clear", sleeve(sealed=False)),
    Kind("sleeve alone, sealed", sleeve(sealed=True)),
)
