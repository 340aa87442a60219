"""A changed lab.yml on a lab that is up: what changed is done, and nothing else is touched."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netkit.errors import Conflict, NetkitError
from netkit.kernel import netns
from netkit.lab import applying, reading
from netkit.lab.drift import drift
from netkit.lab.running import RunningLab
from tests.labs.conftest import CLONE, netkit

Make = Callable[[str], Path]
LAB = """
underlay: {lan: {}, wan: {}}
hosts:
  e1:
    interfaces: {eth0: {segment: lan, address: 10.0.0.1/24}}
    networks: {lane: {subnet: 10.9.0.0/24}, back: {subnet: 10.8.0.0/24}}
    containers:
      aa: {networks: [lane]}
      bb: {networks: [lane]}
      web: {command: httpd -f -h /www, networks: [back]}
      old: {networks: [back]}
    firewall: ["iptables -I DOCKER-USER -s 10.0.0.99 -d {web} -j DROP"]
  p1: {daemon: false, interfaces: {eth0: {segment: lan, address: 10.0.0.2/24}}}
  p2: {daemon: false, interfaces: {eth0: {segment: lan, address: 10.0.0.3/24}}}
  p3: {daemon: false, interfaces: {eth0: {segment: wan, address: 10.1.0.3/24}}}
  p4: {daemon: false, interfaces: {eth0: {segment: lan, address: 10.0.0.4/24}}}
checks: [p1 -> p2 ok]
"""
# Everything but aa, bb, lane, p1, p2 and lan: added, changed and removed.
CHANGED = """
underlay: {lan: {}, wan: {mtu: 1400}, new: {}}
hosts:
  e1:
    interfaces: {eth0: {segment: lan, address: 10.0.0.1/24}, eth1: {segment: new}}
    networks: {lane: {subnet: 10.9.0.0/24}, back: {subnet: 10.7.0.0/24}, more: {}}
    containers:
      aa: {networks: [lane]}
      bb: {networks: [lane]}
      web: {command: httpd -f -h /www, networks: [back]}
      fresh: {networks: [more]}
      fresh2: {networks: [lane]}
    firewall: ["iptables -I DOCKER-USER -s 10.0.0.98 -d {web} -j DROP"]
  p1: {daemon: false, interfaces: {eth0: {segment: lan, address: 10.0.0.2/24}}}
  p2: {daemon: false, interfaces: {eth0: {segment: lan, address: 10.0.0.3/24}}}
  p3:
    daemon: false
    interfaces: {eth0: {segment: new, address: 10.1.0.4/24}}
    routes: [10.5.0.0/24 via 10.1.0.9]
  p5: {daemon: false, interfaces: {eth0: {segment: lan, address: 10.0.0.5/24}}}
checks: [p1 -> p2 ok]
"""
UDP_PORT, TCP_PORT = 7001, 7002
GAP = 0.002  # seconds between two datagrams


def rewritten(lab: RunningLab, text: str) -> RunningLab:
    Path(lab.lab.folder, "lab.yml").write_text(text)
    return RunningLab(lab.lab.folder, lab.name)


def applied(lab: RunningLab, text: str) -> list[str]:
    said: list[str] = []
    changed = rewritten(lab, text)
    applying.apply(changed.lab, changed.places, said.append)
    return said


def inside(path: str, kind: socket.SocketKind) -> socket.socket:
    with netns.inside(path):
        return socket.socket(socket.AF_INET, kind)


@contextmanager
def stream(source: str, target: str, address: str) -> Iterator[dict[str, list[int]]]:
    """Numbered datagrams and numbered words of a TCP connection, from one namespace to another.

    At the end: how many were sent of each, and which arrived, in order.
    """
    seen: dict[str, list[int]] = {"udp": [], "tcp": [], "sent": []}
    stop = threading.Event()
    listening, receiving = inside(target, socket.SOCK_STREAM), inside(target, socket.SOCK_DGRAM)
    sending, connecting = inside(source, socket.SOCK_DGRAM), inside(source, socket.SOCK_STREAM)
    receiving.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    receiving.bind((address, UDP_PORT))
    receiving.settimeout(1)
    listening.bind((address, TCP_PORT))
    listening.listen()
    connecting.settimeout(20)
    connecting.connect((address, TCP_PORT))
    accepted, _ = listening.accept()

    def send() -> None:
        n = 0
        while not stop.is_set():
            sending.sendto(n.to_bytes(4, "big"), (address, UDP_PORT))
            connecting.sendall(n.to_bytes(4, "big"))
            n += 1
            time.sleep(GAP)
        connecting.shutdown(socket.SHUT_WR)
        seen["sent"].append(n)

    def receive() -> None:
        while True:
            try:
                seen["udp"].append(int.from_bytes(receiving.recv(4), "big"))
            except TimeoutError:
                return

    def read() -> None:
        with accepted.makefile("rb") as file:
            while word := file.read(4):
                seen["tcp"].append(int.from_bytes(word, "big"))

    threads = [threading.Thread(target=act) for act in (send, receive, read)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
        for each in (listening, receiving, sending, connecting, accepted):
            each.close()


def kept(lab: RunningLab) -> dict[str, object]:
    """What must not change: namespaces by their inode, processes, addresses."""
    out: dict[str, object] = {}
    for name in ("aa", "bb", "p1", "p2"):
        node = lab[name].node
        out[name] = (os.stat(node.netns).st_ino, node.addresses)
    out["netkitd"] = lab.e1.daemon.pids()
    out["containers"] = lab.e1.netkit("inspect", "--format", "{{.Id}} {{.State.Pid}}", "aa", "bb")
    return out


def test_what_did_not_change_loses_no_packet(fresh: Make) -> None:
    lab = RunningLab(str(fresh(LAB)))
    lab.up()
    before = kept(lab)
    with (
        stream(lab.p1.netns, lab.p2.netns, lab.p2.ip) as hosts,
        stream(lab.aa.netns, lab.bb.netns, lab.bb.ip) as containers,
    ):
        time.sleep(0.2)
        said = applied(lab, CHANGED)
        there = RunningLab(lab.lab.folder, lab.name)
        assert there.fresh2.can_reach(there.aa)
        assert there.p5.can_reach(there.p1)
        assert "10.0.0.98/32" in there.e1.run("iptables", "-S", "DOCKER-USER")
        assert "10.0.0.99/32" not in there.e1.run("iptables", "-S", "DOCKER-USER")
        assert there.web.ip.startswith("10.7.0.")
        assert there.p3.run("ip", "-4", "-o", "addr", "show", "eth0").split()[3] == "10.1.0.4/24"
        assert applying.plan(there.lab, there.places) == ()
        back = applied(lab, LAB)  # and all of it again, the other way round
    for seen in (hosts, containers):
        (sent,) = seen["sent"]
        assert sent > 100
        assert seen["udp"] == seen["tcp"] == list(range(sent))
    assert kept(lab) == before
    assert "- host p4 (not in lab.yml any more)" in said
    assert "+ container fresh of e1" in said
    assert "- network back of e1 (subnet changed)" in said
    assert any(line.startswith("~ bridge wan (mtu 1500, not 1400)") for line in said)
    assert "- container old of e1 (not in lab.yml any more)" in said
    assert "+ host p4" in back
    assert "- bridge new" in back
    assert drift(lab.lab, lab.places) == []


def test_a_plan_says_what_is_done_and_does_nothing(fresh: Make) -> None:
    folder = fresh(LAB)
    lab = RunningLab(str(folder))
    command = ("lab", "apply", "--plan", str(folder))
    new = netkit(*command, check=False)
    assert new.returncode == 2
    assert "+ container aa of e1\n" in new.stdout
    lab.up()
    same = netkit(*command)
    assert same.stdout == "nothing is to be done\n"
    record = Path(lab.places.folder, "applied").read_bytes()
    links = lab.p1.run("ip", "-o", "link"), lab.e1.netkit("ps", "-aq", "--no-trunc")
    changed = rewritten(lab, CHANGED)
    planned = netkit(*command, check=False)
    assert planned.returncode == 2
    told = json.loads(netkit(*command, "--format", "json", check=False).stdout)["Steps"]
    assert [step["Step"] for step in told] == planned.stdout.splitlines()
    assert Path(lab.places.folder, "applied").read_bytes() == record
    assert (lab.p1.run("ip", "-o", "link"), lab.e1.netkit("ps", "-aq", "--no-trunc")) == links
    done = netkit("lab", "apply", str(folder / "lab.yml")).stdout.splitlines()
    ours = [line for line in planned.stdout.splitlines() if "nk-" not in line or "p3" in line]
    assert sorted(set(ours) - set(done)) == [
        "+ veth p5-eth0"  # a host is one line when it is done
    ]
    assert done[-1] == f"lab {lab.name} is as {folder / 'lab.yml'} has it: {len(told)} steps"
    assert netkit(*command).stdout == "nothing is to be done\n"
    assert changed.check()


def killed(lab: RunningLab, after: float) -> bool:
    """Whether `lab apply` was still at work when it was killed."""
    program = [sys.executable, "-m", "netkit", "lab", "apply", lab.lab.folder]
    process = subprocess.Popen(
        program, cwd=CLONE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_killed_anywhere_the_next_apply_completes_it(fresh: Make) -> None:
    """Between the two texts, at instants that differ; the same every time this is run."""
    lab = RunningLab(str(fresh(LAB)))
    lab.up()
    before = kept(lab)
    dice, cut = random.Random(7), 0
    for text in [CHANGED, LAB] * 3:
        changed = rewritten(lab, text)
        for _ in range(2):
            cut += killed(changed, dice.uniform(0.25, 1.2))
        netkit("lab", "apply", lab.lab.folder)
        assert drift(changed.lab, changed.places) == []
        assert changed.check()
        wanted = {c.name for _, c in changed.lab.containers()}
        assert set(changed.e1.netkit("ps", "--format", "{{.Names}}").split()) == wanted
        spaces = {p.name for p in Path("/run/netns").glob(f"nk-{lab.name}-*")}
        assert spaces == {changed.places.namespace(h.name) for h in changed.lab.hosts} | {
            changed.places.namespace("underlay")
        }
    assert cut >= 4
    assert kept(lab) == before


def test_a_step_that_fails_is_one_line_and_the_next_apply_goes_on(fresh: Make) -> None:
    lab = RunningLab(str(fresh(LAB)))
    lab.up()
    before = kept(lab)
    bad = CHANGED.replace("more: {}", "more: {options: {com.docker.network.driver.mtu: x}}")
    rewritten(lab, bad)
    done = netkit("lab", "apply", lab.lab.folder, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("network more of e1: ")
    assert line.endswith(f"before it stay: netkit lab apply {lab.name} goes on from there")
    assert kept(lab) == before
    applied(lab, CHANGED)
    assert drift(RunningLab(lab.lab.folder, lab.name).lab, lab.places) == []
    assert kept(lab) == before


def test_what_was_changed_by_hand_is_found_by_check(fresh: Make) -> None:
    lab = RunningLab(str(fresh(LAB)))
    lab.up()
    assert netkit("lab", "check", lab.lab.folder).returncode == 0
    lab.p3.run("ip", "addr", "del", "10.1.0.3/24", "dev", "eth0")
    lab.p4.run("ip", "link", "set", "eth0", "mtu", "1300")
    lab.e1.netkit("rm", "-f", "old")
    lab.e1.netkit("stop", "-t", "0", "web")
    lab.e1.netkit("net", "connect", "back", "bb")
    more = "p4: {daemon: false, sysctls: {net.ipv4.ip_forward: 1}"
    rewritten(lab, LAB.replace("p4: {daemon: false", more))
    done = netkit("lab", "check", lab.lab.folder, "--format", "json", check=False)
    assert done.returncode == 1
    space = f"/run/netns/nk-{lab.name}"
    assert json.loads(done.stdout)["drift"] == [
        "changed by hand: needs ~ veth p4-eth0 (mtu 0, not 1500)",
        f"changed by hand: needs + address 10.1.0.3/24 on eth0 in {space}-p3",
        "changed by hand: ~ container bb of e1 (on back and lane, not on lane)",
        "changed by hand: ~ container web of e1 (exited, not running)",
        "changed by hand: - container old of e1",
        f"not applied: sysctls of p4 (changed) (netkit lab apply {lab.name})",
    ]


def test_what_cannot_be_applied_is_refused_and_nothing_is_touched(fresh: Make) -> None:
    lab = RunningLab(str(fresh(LAB)))
    lab.up()
    record = Path(lab.places.folder, "applied").read_bytes()
    changed = rewritten(lab, LAB.replace("underlay:", "cluster: [e1]\nunderlay:"))
    with pytest.raises(Conflict, match="`cluster` cannot be changed while the lab is up"):
        applying.apply(changed.lab, changed.places)
    done = netkit("lab", "apply", lab.lab.folder, "--name", "nosuch-lab", "--plan", check=False)
    assert done.returncode == 2  # not up: all of it is new
    assert Path(lab.places.folder, "applied").read_bytes() == record
    os.unlink(Path(lab.places.folder, "applied"))  # of an older netkit
    same = reading.read(lab.lab.folder, lab.name)
    with pytest.raises(NetkitError, match="kept no record"):
        applying.apply(same, lab.places)


TWO = """
underlay: {line: {}}
hosts:
  one: {daemon: false, interfaces: {eth0: {segment: line, address: 10.0.0.1/24}}}
  two: {daemon: false, interfaces: {eth0: {segment: line, address: 10.0.0.2/24}}}
"""
SLOW = TWO.replace("10.0.0.2/24", "10.0.0.2/24, impair: {delay: 30ms}")


def took(lab: RunningLab) -> float:
    """Milliseconds of the quicker of two echoes."""
    out = lab.one.run("busybox", "ping", "-c", "2", "-i", "0.2", "-W", "2", lab.two.ip)
    return float(out.rpartition("= ")[2].partition("/")[0])


def test_impairments_are_applied_and_taken_away(fresh: Make) -> None:
    lab = RunningLab(str(fresh(TWO)))
    lab.up()
    assert took(lab) < 20
    assert applied(lab, SLOW) == ["~ impairment of two@eth0 (new)"]
    slow = RunningLab(lab.lab.folder, lab.name)
    assert took(slow) >= 60
    assert drift(slow.lab, slow.places) == []
    applied(lab, SLOW.replace("10.0.0.2/24", "10.0.0.22/24"))  # plugged into the relay, it stays
    moved = RunningLab(lab.lab.folder, lab.name)
    assert moved.two.ip == "10.0.0.22"
    assert took(moved) >= 60
    assert drift(moved.lab, moved.places) == []
    applied(lab, TWO)
    assert took(RunningLab(lab.lab.folder, lab.name)) < 20
    assert "~" not in lab.one.run("ip", "-n", lab.places.namespace("underlay"), "-br", "link")
    applied(lab, SLOW)
    one = "  one: {daemon: false, interfaces: {eth0: {segment: line, address: 10.0.0.1/24}}}\n"
    applied(lab, f"underlay: {{line: {{}}}}\nhosts:\n{one}  two: {{daemon: false}}\n")
    left = lab.one.run("ip", "-n", lab.places.namespace("underlay"), "-br", "link")
    assert "two" not in left
