"""Up and down: once or many times, cut short anywhere, beside foreign objects."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from netkit.errors import NetkitError
from netkit.kernel import netns
from netkit.lab import building
from netkit.lab.daemon import LabDaemon
from netkit.lab.model import Places
from netkit.lab.running import RunningLab
from tests.labs.conftest import CLONE, netkit, root_network, traces

Make = Callable[[str], Path]
TWO = """
underlay: {lan: {}}
hosts:
  h1:
    interfaces: {eth0: {segment: lan, address: 10.0.0.1/24}}
    setup: [ip link add twice type bridge]
    networks: {lane: {subnet: 10.9.0.0/24}}
    containers:
      web: {command: httpd -f -h /www, ports: ["8080:80"], networks: [lane]}
      own: {networks: [host]}
    firewall: ["iptables -I DOCKER-USER -s {h2} -d {web} -p tcp --dport 81 -j DROP"]
  h2:
    interfaces: {eth0: {segment: lan, address: 10.0.0.2/24}}
    containers: {client: {}}
checks: [client -> h1:8080 ok]
"""


def test_two_hosts_are_up_and_down_without_waiting_for_a_time_out(fresh: Make) -> None:
    """Their speed is measured by bench/drivers.py."""
    lab = RunningLab(str(fresh(TWO)))
    lab.up()  # the archive of the image is made
    lab.down()
    ups, downs = [], []
    for _ in range(2):  # the best counts
        begin = time.monotonic()
        lab.up()
        ups.append(time.monotonic() - begin)
        begin = time.monotonic()
        lab.down()
        downs.append(time.monotonic() - begin)
    assert min(ups) < 15, ups
    assert min(downs) < 10, downs


def test_up_again_changes_nothing_and_makes_what_is_missing(fresh: Make) -> None:
    lab = RunningLab(str(fresh(TWO)))
    lab.up()
    before = {m: lab[m].node for m in ("h1", "h2", "web", "client", "own")}
    pids = lab.h1.daemon.pids()
    rules = lab.h1.run("iptables", "-S")
    lab.up()
    assert {m: lab[m].node for m in before} == before
    assert lab.h1.daemon.pids() == pids
    assert lab.h1.run("iptables", "-S") == rules
    lab.h1.netkit("rm", "-f", "web")
    lab.h2.netkit("stop", "-t", "0", "client")
    lab.h2.daemon.kill()
    lab.h1.run("iptables", "-F", "DOCKER-USER")
    lab.up()
    assert lab.check()
    assert "--dport 81" in lab.h1.run("iptables", "-S", "DOCKER-USER")


def test_the_lines_of_the_readme(fresh: Make) -> None:
    """The README's lines are run with a lab of two hosts instead of its lab."""
    folder = fresh(TWO)
    text = (CLONE / "README.md").read_text()
    lines = re.findall(r"^    netkit (lab (?:up|status|check|down) .*)$", text, re.M)
    assert [line.split()[1] for line in lines] == ["up", "status", "check", "down"]
    for line in lines:
        assert (CLONE / "labs" / "13-icc").is_dir()
        netkit(*line.replace("labs/13-icc", str(folder)).replace("13-icc", folder.name).split())


def test_the_command_line_from_up_to_down(fresh: Make) -> None:
    folder = fresh(TWO)
    name = folder.name
    assert f"lab {name} is up\n" in netkit("lab", "up", str(folder)).stdout
    assert "as it was" in netkit("lab", "up", str(folder)).stdout
    listing = netkit("lab", "status", name, "--format", "json").stdout
    rows = [json.loads(row) for row in listing.splitlines()]
    assert [(r["Name"], r["State"]) for r in rows] == [
        ("h1", "running"), ("h2", "running"), ("web", "running"), ("own", "running"),
        ("client", "running"),
    ]  # fmt: skip
    assert rows[2]["Addresses"].startswith("lane 10.9.0.2/")
    only = netkit("lab", "status", name, "h2").stdout
    assert "client" in only and "web" not in only  # noqa: PT018
    assert "10.0.0.1/24" in netkit("lab", "exec", name, "h1", "ip", "addr").stdout
    assert netkit("lab", "exec", name, "web", "hostname").stdout == "web\n"
    assert "web" in netkit("lab", "exec", name, "h1", "netkit", "ps").stdout
    assert netkit("lab", "exec", name, "web", "false", check=False).returncode == 1
    assert name in netkit("lab", "ls").stdout
    assert "client -> h1 tcp/8080" in netkit("lab", "check", str(folder)).stdout
    assert netkit("lab", "status", name).returncode == 0, "check leaves up what was up"
    assert "is down" in netkit("lab", "down", str(folder)).stdout
    assert "not up" in netkit("lab", "down", name).stdout
    status = netkit("lab", "status", name, check=False)
    assert (status.returncode, status.stderr.startswith(f"lab {name} is not up")) == (1, True)


def test_one_host_goes_and_comes_back_while_the_other_runs_on(fresh: Make) -> None:
    folder = fresh(TWO)
    lab = RunningLab(str(folder))
    netkit("lab", "up", str(folder))
    pids = lab.h2.daemon.pids()
    assert "host h1" in netkit("lab", "down", folder.name, "h1").stdout
    assert not os.path.exists(lab.places.netns("h1"))
    assert lab.places.run("h1") not in " ".join(traces(folder.name))
    assert lab.h1.node.state == "down"
    assert "h1 does not run (down)" in repr(lab.check())
    assert "not up" in netkit("lab", "down", folder.name, "h1").stdout
    assert "not up" in netkit("lab", "down", folder.name, "underlay").stdout
    assert "half up" in netkit("lab", "ls").stdout
    netkit("lab", "up", str(folder), "h1")
    assert lab.check()
    assert lab.h2.daemon.pids() == pids
    wrong = netkit("lab", "up", str(folder), "h3", check=False)
    assert "has no host 'h3'" in wrong.stderr


@pytest.mark.parametrize("name", ["../../etc/x", "", "UPPER", "a b"])
def test_a_name_that_is_no_file_name_touches_nothing(name: str) -> None:
    done = netkit("lab", "down", "/", "--name", name, check=False)
    assert done.returncode == 1
    assert "is no name for a lab" in done.stderr


def test_a_shell_on_a_host_and_in_a_container(fresh: Make) -> None:
    folder = fresh(TWO)
    netkit("lab", "up", str(folder))
    for where, word in (("h2", "10.0.0.2"), ("web", "10.9.0.2")):
        done = subprocess.run(
            [sys.executable, "-m", "netkit", "lab", "sh", folder.name, where],
            input="ip -4 addr\nhostname\nexit 3\n", capture_output=True, text=True, timeout=30,
            cwd=CLONE,
        )  # fmt: skip
        assert word in done.stdout
        assert done.stdout.endswith(f"\n{where}\n")
        assert done.returncode == 3


def host_names(pids: Iterable[int]) -> set[str]:
    """Their UTS namespaces."""
    found = set()
    for pid in pids:
        with suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/ns/uts"))
    return found


def test_hosts_have_host_names_of_their_own(fresh: Make) -> None:
    ours = socket.gethostname()
    folder = fresh(TWO)
    lab = RunningLab(str(folder))
    lab.up()
    for host in (lab.h1, lab.h2):
        assert host.run("uname", "-n") == f"{host}\n"
        assert host.netkit("info", "--format", "{{.Name}}") == f"{host}\n"
    lab.restart("h1")
    assert lab.h1.netkit("info", "--format", "{{.Name}}") == "h1\n"
    assert lab.h2.run("sh", "-c", "hostname other; uname -n") == "other\n"  # of that command alone
    assert lab.h2.run("uname", "-n") == "h2\n"
    own = host_names(pid for host in (lab.h1, lab.h2) for pid in host.daemon.pids())
    assert len(own) == 2
    lab.down()
    assert not own & host_names(int(each) for each in os.listdir("/proc") if each.isdigit())
    assert socket.gethostname() == ours


def test_a_check_that_fails_makes_exit_code_1_and_the_lab_goes_down(fresh: Make) -> None:
    folder = fresh(TWO.replace("checks: [", "checks: [client -> h1:8080 blocked, "))
    done = netkit("lab", "check", str(folder), check=False)
    assert done.returncode == 1
    assert "!  client -> h1 tcp/8080  blocked   open" in done.stdout
    assert "1 of 2 checks hold, 1 fail" in done.stdout
    assert traces(folder.name) == []


def test_silence_without_a_control_proves_nothing(fresh: Make) -> None:
    more = "client -> h1:9999 blocked, h2 -> web tcp/99 blocked, "
    folder = fresh(TWO.replace("checks: [", f"checks: [{more}"))
    done = netkit("lab", "check", str(folder), check=False)
    assert done.returncode == 1
    shown = [line for line in done.stdout.splitlines() if not line.lstrip().startswith("trace:")]
    lines = [line for line in shown if "9999" in line or "tcp/99" in line]
    assert "leak" in lines[0], "a refusal is an answer"
    assert lines[1].startswith("?")
    assert "web does not answer tcp/99 even to itself" in lines[1]


# failures

NO_BRIDGE = "options: {com.docker.network.bridge.name: eth0}"


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda t: t.replace("add twice", "add toolongforaninterface"), "h1: ip link"),
        (lambda t: t.replace("10.9.0.0/24}", f"10.9.0.0/24, {NO_BRIDGE}}}"), "network lane of h1"),
        (lambda t: t.replace("httpd -f", "nosuchprogram"), "container web of h1"),
        (lambda t: t.replace("-j DROP", "-j NOWHERE"), "NOWHERE"),
        (lambda t: t.replace("setup:", "daemon: [--mtu=1]\n    setup:"), "netkitd of h1 ended"),
    ],
    ids=["setup", "network", "container", "firewall", "daemon"],
)
def test_an_up_that_fails_says_why_and_leaves_nothing(
    fresh: Make, break_it: Callable[[str], str], words: str
) -> None:
    before = root_network()
    folder = fresh(break_it(TWO))
    done = netkit("lab", "up", str(folder), check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert traces(folder.name) == []
    assert root_network() == before


def test_a_foreign_namespace_is_not_touched(fresh: Make) -> None:
    folder = fresh(TWO)
    path = Places(lab=folder.name).netns("h2")
    netns.create(path)
    inode = os.stat(path).st_ino
    try:
        done = netkit("lab", "up", str(folder), check=False)
        assert done.returncode == 1
        assert "exists, and no lab made it" in done.stderr
        building.down(Places(lab=folder.name))
        assert os.stat(path).st_ino == inode
    finally:
        netns.remove(path)


def test_two_labs_of_one_folder_do_not_meet(fresh: Make) -> None:
    folder = fresh(TWO)
    one, two = (RunningLab(str(folder), f"{folder.name}-{n}") for n in "ab")
    try:
        one.up()
        two.up()
        two.down()
        assert one.check()
        other = Path(f"{folder}x")
        folder.rename(other)
        with pytest.raises(NetkitError, match=r"give a folder|is up: take it down first"):
            RunningLab(str(other), one.name).up()
        other.rename(folder)
    finally:
        one.down()
        two.down()
    assert traces(one.name) == traces(two.name) == []


def killed_up(folder: Path, after: float) -> bool:
    """Start `netkit lab up`, kill it and nothing else; return False if it was done by then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "netkit", "lab", "up", str(folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=CLONE,
    )  # fmt: skip
    try:
        return process.wait(after) != 0
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


KILLS = int(os.environ.get("NETKIT_TEST_KILLS", "6"))


def test_after_a_kill_of_up_at_any_instant_down_leaves_nothing(fresh: Make) -> None:
    before, folder, dice = root_network(), fresh(TWO), random.Random(4)
    for _ in range(KILLS):
        killed_up(folder, dice.uniform(0.25, 2.5))
        netkit("lab", "down", folder.name)
        assert traces(folder.name) == []
    assert root_network() == before


def test_after_a_kill_of_up_at_any_instant_up_goes_on(fresh: Make) -> None:
    folder, dice = fresh(TWO), random.Random(5)
    for _ in range(max(2, KILLS // 2)):
        for _ in range(2):
            killed_up(folder, dice.uniform(0.25, 2.0))
        lab = RunningLab(str(folder))
        lab.up()
        assert lab.check()
        lab.down()
        assert traces(folder.name) == []


def test_down_ends_what_is_left_when_every_daemon_was_killed(fresh: Make) -> None:
    folder = fresh(TWO)
    lab = RunningLab(str(folder))
    lab.up()
    lingering = subprocess.Popen(
        ["nsenter", f"--net={lab.h2.netns}", "sleep", "1000"], stdin=subprocess.DEVNULL
    )
    for host in ("h1", "h2"):
        LabDaemon(lab.places, host).kill()
    assert any("process" in line for line in traces(folder.name)), "containers outlive daemons"
    os.unlink(folder / "lab.yml")
    netkit("lab", "down", folder.name)
    assert traces(folder.name) == []
    assert lingering.wait(60) == -signal.SIGKILL, "what runs in its namespaces ends with it"


def test_a_lab_that_another_process_changes_is_left_to_it(fresh: Make) -> None:
    folder = fresh(TWO)
    slow = fresh(TWO.replace("ip link add twice type bridge", "sleep 3"))
    process = subprocess.Popen(
        [sys.executable, "-m", "netkit", "lab", "up", str(slow)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=CLONE,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not Path(Places(lab=slow.name).folder).exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        done = netkit("lab", "down", slow.name, check=False)
        assert done.returncode == 1
        assert "being changed by another process" in done.stderr
        netkit("lab", "up", str(folder))  # another lab is not held up
    finally:
        process.wait(120)


FORTY = """
underlay: {lan: {}}
hosts:
  h[1-40]: {daemon: false, interfaces: {eth0: {segment: lan, address: "10.0.0.[101-140]/24"}}}
checks: ["h[1-40] <-> h[1-40] icmp ok"]
"""


def test_more_may_ask_each_other_than_the_kernel_has_room_for_neighbours(fresh: Make) -> None:
    """40 hosts need 3,120 entries of 1,024: they are probed in parts, with a flush after each."""
    lab = RunningLab(str(fresh(FORTY)))
    lab.up()
    answer = lab.check()
    assert answer, answer
    assert len(answer.results) == 40 * 39
    assert "10.0.0.140/24" in lab.h40.run("ip", "addr", "show", "eth0")
    rows = netkit("lab", "status", lab.name, "--format", "{{.Name}} {{.Addresses}}").stdout
    assert rows.splitlines()[-1] == "h40 eth0 10.0.0.140/24"


def test_setup_finds_the_open_vswitch_of_its_host(fresh: Make) -> None:
    lab = RunningLab(
        str(
            fresh("""
hosts:
  h1:
    ovs: true
    setup:
      - ovs-vsctl add-br obr0 -- set bridge obr0 datapath_type=netdev
      - ovs-vsctl add-port obr0 gre0 -- set interface gre0 type=gre options:remote_ip=10.0.0.2
      - ip link add br0 type bridge
      - ip link set obr0 master br0
      - ip addr add 192.168.1.1/24 dev br0
      - ip link set br0 up
    daemon: [-b, br0]
    containers: {c1: {}}
checks: []
""")
        )
    )
    lab.up()
    try:
        assert "gre0" in lab.h1.run("ovs-vsctl", "list-ports", "obr0")
        assert lab["c1"].run("hostname", "-i").startswith("192.168.1.")
    finally:
        lab.down()
