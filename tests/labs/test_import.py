"""Labs of other tools, imported by the command and brought up: they answer."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.lab.model import Places
from netkit.lab.running import RunningLab
from tests.labs.conftest import netkit, root_network, traces

KATHARA = {
    "lab.conf": """LAB_DESCRIPTION="A router and two machines"
r1[0]="A"
r1[1]="B"
r1[image]="kathara/frr"
r1[sysctl]="net.ipv4.ip_forward=1"
pc1[0]="A/02:00:00:00:0a:01"
pc2[0]="B"
pc2[exec]="ip route add default via 10.2.0.1"
""",
    "r1.startup": "ip address add 10.1.0.1/24 dev eth0\nifconfig eth1 10.2.0.1/24 up\n"
    "ip address add 10.255.0.1/32 dev lo\nsystemctl start frr\n",
    "pc1.startup": "ifconfig eth0 10.1.0.9 netmask 255.255.255.0 up\n"
    "route add default gw 10.1.0.1\n",
    "pc2.startup": "ip address add 10.2.0.9/24 dev eth0\n",
    "lab.dep": "pc1: r1\n",
}
COMPOSE = """
services:
  web-site:
    image: busybox:1.36
    command: httpd -f -h /www
    depends_on: [db]
    networks: {front: {ipv4_address: 10.9.0.5, aliases: [www]}, back: }
    ports: ["8080:80"]
  db: {image: "postgres:16", command: postgres, user: postgres, networks: [back]}
  client: {image: busybox, networks: [front], environment: {A: "${B:-c}"}, tmpfs: /tmp}
networks:
  front: {ipam: {config: [{subnet: 10.9.0.0/24}]}}
  back: {internal: true}
"""


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Path]:
    """The folder of a lab that is yet to be made; it is taken down, and leaves nothing."""
    before = root_network()
    folder = tmp_path / f"imported-{secrets.token_hex(3)}"
    try:
        yield folder
    finally:
        netkit("lab", "down", folder.name)
    assert traces(folder.name) == []
    assert root_network() == before
    assert not Path(Places(lab=folder.name).folder).exists()


def test_a_folder_of_kathara_comes_up_and_pings(tmp_path: Path, output: Path) -> None:
    source = tmp_path / "kathara"
    source.mkdir()
    for name, text in KATHARA.items():
        (source / name).write_text(text)
    done = netkit("lab", "import", "-o", str(output), str(source))
    left = [line for line in done.stderr.splitlines() if line.startswith("not carried over")]
    assert [line.split(": ", 2)[1] for line in left] == [
        "lab.conf:4", "r1.startup:4", "lab.dep:1",
    ]  # fmt: skip
    lab = RunningLab(str(output))
    lab.up()
    answer = lab.check()
    assert answer, answer
    assert lab.pc1.can_reach("10.2.0.9")
    assert lab.pc2.can_reach("10.255.0.1")
    assert lab.pc1.mac() == "02:00:00:00:0a:01"


def test_a_compose_file_comes_up_and_answers(tmp_path: Path, output: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    netkit("lab", "import", "-o", str(output), str(tmp_path / "compose.yaml"))
    lab = RunningLab(str(output))
    lab.up()
    answer = lab.check()
    assert answer, answer
    assert lab.web_site.address("front") == "10.9.0.5"
    assert lab.client.can_reach(lab.web_site, "tcp/80")
    assert "hello" in lab.client.run("wget", "-qO-", "http://www/"), "by its alias"
    assert "hello" in lab.client.run("wget", "-qO-", "http://web-site/"), "by the service's name"
