"""The course's lines (chapter 15.3) on two hosts, by the executables `weave` and `docker`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.engine import image, wire
from tests.engine.daemon import Engine, netkit_only
from tests.engine.terminal import Terminal
from tests.engine.weave_hosts import Hosts

pytestmark = [pytest.mark.root, pytest.mark.engine, netkit_only("it has no weave driver")]

FIRST, SECOND = "192.168.59.103", "192.168.59.104"
BASH = b'#!/bin/sh\nexec sh "$@"\n'


class Host:
    """A machine of the course's: an engine, and a shell whose commands talk to it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        found = self.engine.cli_environment() | {"DOCKER_HOST": self.engine.host, "PATH": path}
        return {name: value for name, value in found.items() if not name.startswith("WEAVE_")}

    def sh(self, script: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["sh", "-c", script], env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{script}: {done.stderr}{done.stdout}"
        return done

    def out(self, script: str) -> str:
        return self.sh(script).stdout.strip()

    def comes(self, script: str, words: str, seconds: float = 60) -> str:
        """Run it until its output has these words; that output."""
        deadline = time.monotonic() + seconds
        while words not in (found := self.out(script)):
            assert time.monotonic() < deadline, f"{script}: {found}"
            time.sleep(0.2)
        return found


def ubuntu() -> bytes:
    """The image of the other tests with a /bin/bash: it stands for the course's."""
    archive = io.BytesIO(image.rootfs())
    with tarfile.open(fileobj=archive, mode="a") as tar:
        bash = tarfile.TarInfo("bin/bash")
        bash.size, bash.mode = len(BASH), 0o755
        tar.addfile(bash, io.BytesIO(BASH))
    return archive.getvalue()


@pytest.fixture(scope="module")
def hosts(weave_hosts_of_module: Hosts) -> Iterator[tuple[Host, Host]]:
    with ExitStack() as stack:
        found = []
        for host, address in zip(weave_hosts_of_module, (FIRST, SECOND), strict=True):
            engine, where = host.engine, (f"{address}/24", "dev", "eth0")
            wire.ip("-n", engine.netns, "addr", "add", *where)
            stack.callback(wire.ip, "-n", engine.netns, "addr", "del", *where)
            engine.out("import", "-c", 'CMD ["/bin/bash"]', "-", "ubuntu", input=ubuntu())
            found.append(Host(engine))
        yield found[0], found[1]


def test_the_course_s_lines(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    first.sh("weave launch")
    c2 = second.out(
        f"""
        weave launch {FIRST} &&
        c2=$(weave run 192.168.1.2/24 -it ubuntu /bin/bash) &&
        echo $c2
        """
    )
    assert second.engine.inspect(c2)["State"]["Running"]
    with Terminal(["docker", "attach", c2], env=second.environment) as terminal:
        terminal.answered(b"ifconfig ethwe\n", rb"inet addr:192\.168\.1\.2 ")
        terminal.send(b"\x10\x11")  # ctrl-p ctrl-q: it runs on
        terminal.wait()
    wc1 = first.out("weave run 192.168.1.10/24 -it --name wc1 ubuntu /bin/bash")
    assert first.engine.inspect("wc1")["Id"] == wc1
    with Terminal(["docker", "attach", "wc1"], env=first.environment) as terminal:
        terminal.answered(b"ifconfig\n", rb"inet addr:192\.168\.1\.10 ")
        terminal.send(b"ping 192.168.1.2\n")
        terminal.expect(rb"64 bytes from 192\.168\.1\.2")
        terminal.send(b"\x03\x10\x11")
        terminal.wait()
    routes = first.out("docker exec wc1 ip route")
    assert "default via" in routes  # by the default network, where docker's -p and names work, too
    assert "eth0" in routes


def test_status_and_ps_say_so(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    status = first.comes("weave status", "Connections: 1 (1 established)")
    assert "Status: ready" in status
    connection = first.out("weave status connections").split()
    assert connection[1:3] == [f"{SECOND}:6783", "established"]
    there = first.out("weave status").partition("Name: ")[2].split()[0]
    second.comes("weave status peers", f"{there:<37} established")
    assert second.out("weave status targets") == FIRST
    assert " IPs (" in first.out("weave status ipam")
    assert "wc1" in second.comes("weave status dns", "192.168.1.10")
    container, _, *addresses = first.out("weave ps wc1").split()
    assert container == first.engine.inspect("wc1")["Id"][:12]
    assert addresses == ["192.168.1.10/24"]
    report = json.loads(first.out("weave report"))
    assert report["IPAM"]["Range"] == "10.32.0.0/12"
    assert first.out("weave report -f '{{.DNS.Domain}} {{len .Router.Peers}}'") == "weave.local. 2"


def test_addresses_of_containers_and_of_the_host(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    first.sh("docker run -d --name later --stop-timeout 0 ubuntu sleep 1000")
    address = first.out("weave attach later")
    assert first.out("weave attach 10.44.1.7/24 later") == "10.44.1.7"
    assert first.out("weave ps later").split()[2:] == [f"{address}/12", "10.44.1.7/24"]
    assert "10.44.1.7/24" in first.out("docker exec later ip addr show ethwe")
    assert first.out("weave detach 10.44.1.7/24 later") == "10.44.1.7"
    for line in ("weave attach 172.17.200.9/24 later",
                 "docker create --name warned --network name=weave,driver-opt=netkit.addresses="
                 "172.17.200.10/24 ubuntu"):  # fmt: skip
        assert "is in the subnet 172.17.0.0/16 of network bridge" in first.sh(line).stderr
    first.sh("weave detach 172.17.200.9/24 later; docker rm warned")
    exposed = second.out("weave expose")
    assert second.out("weave ps weave:expose").split()[2:] == [f"{exposed}/12"]
    ping = f"docker exec later ping -c1 -W4 {exposed} || true"
    first.comes(ping, "1 packets received")
    assert second.out("weave hide") == exposed
    assert first.out("weave detach later") == address
    assert first.sh("docker exec later ip addr show ethwe", check=False).returncode == 1


def test_names_are_added_and_removed(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    first.sh("weave dns-add wc1 -h www.weave.local")
    first.sh("weave dns-add 10.44.1.9 -h printer.weave.local")
    assert first.out("weave dns-lookup www") == "192.168.1.10"
    second.comes("weave dns-lookup printer.weave.local", "10.44.1.9")
    first.sh("weave dns-remove wc1 -h www.weave.local")
    assert first.out("weave dns-lookup www") == ""
    first.sh("weave run --without-dns --name silent --stop-timeout 0 ubuntu sleep 1000")
    assert first.out("weave ps silent")
    assert first.out("weave dns-lookup silent") == ""


def test_mistakes_are_explained_in_a_line(hosts: tuple[Host, Host]) -> None:
    first, _ = hosts
    for line, code, words in (
        ("weave launch", 1, "runs on this host already"),
        ("weave run 192.168.1.300/24 ubuntu", 125, "invalid address '192.168.1.300/24'"),
        ("weave run 192.168.1.7 ubuntu", 125, "it has no prefix length"),
        ("weave run 192.168.1.10/24 ubuntu", 125, "192.168.1.10 is held by container wc1"),
        ("weave run 10.2.1.1/24 --pull never nosuch", 125, "No such image: nosuch"),
        ("weave run 10.2.1.1/24 --rm ubuntu nosuch", 127, "executable file not found"),
        ("weave run --network host ubuntu", 125, "no interfaces"),
        ("weave attach nosuch", 1, "No such container: nosuch"),
        ("weave attach 10.2.1.1 wc1", 1, "it has no prefix length"),
        ("weave connect 10.0.0.1:0", 1, "'10.0.0.1:0' is no peer"),
        ("weave rmpeer nosuch", 1, "no peer is called 'nosuch'"),
        ("weave dns-remove -h nosuch.weave.local", 1, "no such name"),
        ("weave env", 1, "there is no proxy"),
    ):
        done = first.sh(line, check=False)
        assert done.returncode == code, (line, done.stderr)
        assert done.stdout == "", line
        assert words in done.stderr, (line, done.stderr)
        assert done.stderr.count("\n") == 1, (line, done.stderr)


def test_stop_and_reset(hosts: tuple[Host, Host]) -> None:
    second = hosts[1]
    second.sh("weave stop")
    assert second.sh("weave status", check=False).returncode == 1
    second.sh("weave launch --resume")
    assert second.out("weave status targets") == FIRST
    for host in hosts:
        host.sh("docker ps -aq | xargs docker rm -f; docker network rm weave")
        done = host.sh("weave run ubuntu", check=False)
        assert (done.returncode, done.stdout) == (125, "")
        assert done.stderr == "network weave was removed: `weave stop`, and launch again\n"
        assert host.out("docker ps -aq") == ""
    second.sh("weave stop; weave launch --resume; weave run ubuntu true")
    for host in hosts:
        host.sh("docker ps -aq | xargs -r docker rm -f; weave reset --force")
        assert "weave" not in host.out("docker network ls --format '{{.Name}}'").split()
