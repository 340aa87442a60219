"""What the pages on dockerd and on podman say to type for a network of ovs, on two hosts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from netkit.lab.openvswitch import OpenVSwitch
from tests.engine import image
from tests.engine import podman as podmans
from tests.engine.daemon import DOCKER, Engine, netkit_only
from tests.engine.dockerd import DockerHost
from tests.engine.podman import Podman
from tests.engine.wire import HOST, NEIGHBOUR, Wire, inside
from tests.places import ROOT

pytestmark = [
    netkit_only("it is about netkitd beside others"),
    pytest.mark.skipif(not shutil.which("ovs-vswitchd"), reason="needs openvswitch-switch"),
]
SERVER = ['CMD ["httpd", "-f", "-h", "/www"]']  # what nginx is here
PATIENCE = 60.0  # seconds


def typed(page: str, section: str) -> list[str]:
    """Commands of a section's blocks, without comments; a document beside its command."""
    text = (ROOT / "docs" / page).read_text().partition(f"\n## {section}")[2].partition("\n## ")[0]
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    script = "\n".join(re.sub(r"(^|\s+)#.*", "", line) for line in lines)
    script = script.replace("\\\n", "")
    commands = re.findall(r"^\S[^\n]*<<END\n.*?\nEND$|^\S[^\n]*$", script, re.M | re.S)
    return [" ".join(c.split()) if "<<END" not in c else c for c in commands]


@dataclass
class Person:
    """Types on one host."""

    netns: str
    tools: Path  # a folder of programs
    environment: Mapping[str, str]
    replaced: Mapping[str, str]  # of the page, by what it is here

    def tool(self, name: str, *argv: str) -> None:
        self.tools.mkdir(exist_ok=True)
        words = " ".join(f"'{word}'" for word in argv)
        (self.tools / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (self.tools / name).chmod(0o755)

    def __call__(self, command: str, check: bool = True) -> str:
        """Type a command of a page; return what it prints."""
        for old, new in self.replaced.items():
            command = command.replace(old, new)
        return self.exactly(command, check)

    def exactly(self, command: str, check: bool = True) -> str:
        path = f"{self.tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            inside(self.netns, "sh", "-c", command), capture_output=True, text=True, check=False,
            env={**self.environment, "PATH": path}, timeout=100, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        output = done.stdout + done.stderr
        assert done.returncode == 0 or not check, f"{command}: {output}"
        return output


def eventually(what: str, found: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@contextmanager
def switches(folder: Path) -> Iterator[tuple[Wire, dict[str, str]]]:
    """Two hosts, each with an Open vSwitch: its address by the host's name."""
    with ExitStack() as stack:
        wire = Wire.lay()
        stack.callback(wire.remove)
        remotes = {}
        for home in (wire.host, wire.neighbour):
            switch = OpenVSwitch(f"/run/netns/{home}", folder / home)
            stack.callback(switch.stop)
            switch.start()
            remotes[home] = switch.remote
        yield wire, remotes


def connected(person: Person, network: str) -> bool:
    """Whether the tunnel's other end answers (BFD), a few seconds after its begin."""
    return '"State": "up"' in person(f"netkit net inspect {network}", check=False)


def pings(person: Person, engine: str, target: str, seconds: int = 5) -> bool:
    command = f"{engine} exec web ping -c 1 -W {seconds} {target}"
    return "1 packets received" in person.exactly(command, check=False)


def test_containers_of_two_dockerds(tmp_path: Path) -> None:
    launch, create, *then = typed("docker-plugin.md", "Two minutes")
    assert launch == "netkitd --containers=false --docker-plugin &"  # as DockerHost starts it
    places = ({"192.0.2.1": HOST, "192.0.2.2": NEIGHBOUR},
              {"10.9.1.": "10.9.2.", "192.0.2.2": HOST})  # fmt: skip
    with ExitStack() as stack:
        wire, remotes = stack.enter_context(switches(tmp_path))
        people = []
        for replaced, (home, remote) in zip(places, remotes.items(), strict=True):
            host = DockerHost(wire, home, netkitd=("--ovs-db", remote))
            stack.callback(host.destroy)
            host.start()
            host.docker.load_image("nginx:latest", SERVER)
            at = {**host.docker.cli_environment(), "DOCKER_HOST": host.docker.host}
            at["NETKIT_HOST"] = host.netkit.host
            person = Person(home, tmp_path / f"tools-{home}", at, replaced)
            person.tool("docker", DOCKER)
            people.append(person)
        here, there = people
        for person in people:
            person(create)
            person(then[0])
        assert "10.9.2.2" in there("docker inspect web")
        eventually("the way", lambda: pings(there, "docker", "10.9.1.2"))
        assert "hello" in there.exactly(f"curl -s http://{HOST}:8080/")
        eventually("the tunnel", lambda: connected(here, "lane"))
        eventually("the name", lambda: '"web"' in here("netkit net inspect lane"))
        said = {command: here(command, check=" trace " not in command) for command in then[1:]}
        listed, traced, _ = said.values()
        assert re.search(r"\blane\b.*\bovs\b", listed)
        assert f"tunnel to {NEIGHBOUR}" in traced
        assert not pings(there, "docker", "10.9.1.2", seconds=1), said


@pytest.mark.skipif(bool(podmans.absent()), reason=podmans.absent() or "it is there")
def test_containers_of_two_podmans(tmp_path: Path) -> None:
    launch, *then = typed("cni.md", "Two minutes to a container on an ovs network")
    assert launch == "netkitd --containers=false &"
    with ExitStack() as stack:
        wire, remotes = stack.enter_context(switches(tmp_path))
        people = []
        for n, (home, remote) in enumerate(remotes.items()):
            engine = _Networks(wire, home, remote)
            stack.callback(engine.destroy)
            engine.start()
            podman = stack.enter_context(podmans.podman(engine))
            people.append(_user(podman, tmp_path / f"tools-{home}", second=bool(n)))
        here, there = people
        prepared = next(n for n, c in enumerate(then) if c.startswith("podman run -d")) + 1
        for person in people:
            for command in then[:prepared]:
                person(command)
        assert "10.40.2.2" in there("podman inspect web")
        eventually("the way", lambda: pings(there, "podman", "10.40.1.2"))
        eventually("the tunnel", lambda: connected(here, "app"))
        said = {
            command: here(command, check=" trace " not in command) for command in then[prepared:]
        }
        assert any("hello" in output for output in said.values()), said
        inspected = said["netkit net inspect app"]
        assert '"Engine": "cni"' in inspected
        assert '"web"' in inspected
        traced = next(output for command, output in said.items() if " trace " in command)
        assert f"tunnel to {NEIGHBOUR}" in traced
        assert "hello" in here.exactly(f"curl -s http://{NEIGHBOUR}:8080/")
        for person in people:
            person("podman rm -f -t 0 web")


class _Networks(Engine):
    """A netkitd of a host of the wire, that runs no containers."""

    def __init__(self, wire: Wire, home: str, remote: str) -> None:
        self._home = home
        super().__init__(wire, kind="netkitd", flags=("--containers=false", "--ovs-db", remote))

    @property
    def netns(self) -> str:
        return self._home


def _user(podman: Podman, tools: Path, *, second: bool) -> Person:
    podman.run("import", *(f"--change={c}" for c in SERVER), "-", "nginx",
               input=image.rootfs())  # fmt: skip
    socket = podman.engine.host.removeprefix("unix://")
    replaced = {
        "10.0.0.1": HOST, "10.0.0.2": NEIGHBOUR, "/etc/cni/net.d": str(podman.networks),
        "/usr/lib/cni": str(podman.at / "bin"), "10.0.0.0/24": "10.77.0.0/24",
        '"type": "netkit"': f'"type": "netkit", "socket": "{socket}"',
    }  # fmt: skip
    if second:
        replaced |= {"10.0.0.2": HOST, "10.40.1.": "10.40.2."}
    person = Person(podman.engine.netns, tools, podman.environment, replaced)
    person.tool("podman", *podman.argv()[3:])
    return person
