"""What netkit has for dockerd is compared with what dockerd has."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netkit.client.failure import Refused, Unreachable
from netkit.errors import Conflict
from netkit.frontends.libnetwork.following import GRACE, Following
from netkit.network.access import AccessRule
from tests.unit.netkit.frontends.libnetwork.dockerd import Host, id_of


class Docker(Following):
    """`networks` by name: what containers are on them, with their addresses."""

    def __init__(self, host: Host) -> None:
        self.clock = 0.0
        super().__init__(host.front, "unix:///none", threading.Event(), now=lambda: self.clock)
        self.networks: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.down = False

    def _get(self, path: str) -> Any:
        if self.down:
            raise Unreachable("no process listens there")
        self.asked.append(path)
        if path == "/networks":
            ipam = {"Driver": "netkit", "Config": [{"Subnet": "10.40.0.0/24"}]}
            return [{"Id": id_of(n), "Name": n, "IPAM": ipam} for n in self.networks]
        _, kind, id, *_ = path.split("/")
        if kind == "containers":
            name = bytes.fromhex(id.removesuffix("c" * 8)).decode().strip("\0")
            on = {n: {"Aliases": ["alias"]} for n in self.networks}
            return {"NetworkSettings": {"Networks": on}, "Config": {"Hostname": f"{name}-host"}}
        for name, members in self.networks.items():
            if id_of(name) == id:
                found = {
                    container_of(m): {"Name": called, "EndpointID": id_of(m)}
                    for m, called in members.items()
                }
                return {"Name": name, "Containers": found}
        raise Refused(404, "no such network")

    def wait(self, seconds: float) -> None:
        self.look()
        self.clock += seconds
        self.look()


def container_of(name: str) -> str:
    return name.encode().hex().ljust(56, "0") + "c" * 8


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    h = Host(tmp_path / "db")
    h.network_create("back", subnet="10.40.0.0/24")
    yield h
    for holder in list(h.ports._by_holder):
        h.ports.release(holder)
    h.database.close()


@pytest.fixture
def docker(host: Host) -> Docker:
    d = Docker(host)
    d.networks = {"back": {}}
    return d


def test_names_come_from_dockerd(host: Host, docker: Docker) -> None:
    host.run("back", "web")
    docker.networks["back"]["web"] = "shop"
    docker.look()
    (record,) = host.net.endpoints(sandbox=host.sandbox("web"))
    assert (record.owner_name, record.container) == ("shop", container_of("web"))
    assert record.spec.names == ("shop", "alias", container_of("web")[:12], "web-host")
    (network,) = (n for n in host.net.all() if not n.builtin)
    assert network.spec.labels["netkit.docker.name"] == "back"
    assert host.names_seen.now[record.id].owner_name == "shop"
    asked = len(docker.asked)
    docker.look()
    assert len(docker.asked) == asked + 2  # the networks, not the container again
    docker.networks["back"]["web"] = "shop2"
    docker.look()
    assert host.net.endpoints(sandbox=record.sandbox)[0].owner_name == "shop2"


def test_a_repeated_call_has_the_same_answer_once_the_name_is_known(
    host: Host, docker: Docker
) -> None:
    address = host.run("back", "web")
    docker.networks["back"]["web"] = "shop"
    docker.look()
    assert "Err" not in host.create("back", "web", address)


def test_what_dockerd_does_not_have_is_removed_after_a_while(host: Host, docker: Docker) -> None:
    before = host.things()
    host.run("back", "web", (80, 21410))
    docker.wait(GRACE - 1)
    assert host.front.tables.endpoints()
    docker.clock += 1
    docker.look()
    assert host.front.tables.endpoints() == []
    assert host.things() == before
    assert host.reserved() == 0


def test_what_dockerd_has_stays(host: Host, docker: Docker) -> None:
    host.run("back", "web")
    docker.networks["back"]["web"] = "web"
    before = (host.things(), host.docker_rows())
    docker.wait(10 * GRACE)
    assert host.things() == before[0]
    assert len(host.docker_rows()) == len(before[1])


def test_an_address_that_nobody_got_is_released(host: Host, docker: Docker) -> None:
    host.ipam("RequestAddress", PoolID=host.pool, Address="", Options=None)
    assert host.reserved() == 1
    docker.wait(GRACE)
    assert host.reserved() == 0


def test_a_network_that_is_gone_is_removed_with_its_pool(host: Host, docker: Docker) -> None:
    host.run("back", "web")
    docker.networks = {}
    docker.wait(GRACE)
    docker.wait(GRACE)
    assert host.docker_rows() == []
    assert {n.spec.name for n in host.net.all()} == {"bridge", "host", "none"}


def test_a_pool_of_dockerds_own_driver_stays_as_long_as_its_network(
    host: Host, docker: Docker
) -> None:
    host.network_rm("back", "10.40.0.1")
    pool = host.ipam("RequestPool", Pool="10.40.0.0/24", V6=False)["PoolID"]
    docker.networks = {"other": {}}
    docker.wait(10 * GRACE)
    assert host.front.tables.pool(pool) is not None
    docker.networks = {}
    docker.wait(GRACE)
    assert host.docker_rows() == []


def test_while_dockerd_is_down_all_stays(host: Host, docker: Docker) -> None:
    host.run("back", "web")
    docker.look()
    docker.down = True
    docker.clock += 10 * GRACE
    docker._guarded()
    docker.down = False
    docker._guarded()  # its first look since: nothing has been missing for long
    assert host.front.tables.endpoints()


def test_rules_are_about_the_container_whatever_endpoint_it_has(
    host: Host, docker: Docker
) -> None:
    address = host.run("back", "web")
    docker.networks["back"]["web"] = "web"
    docker.look()
    rule = AccessRule(verdict="drop", target=container_of("web"), sources=("192.0.2.0/24",))
    made = host.net.add_access_rule(rule)

    def enforced() -> int:
        things = host.kernel.things.values()
        return sum("192.0.2.0/24" in str(r) and "DROP" in str(r) for r in things)

    assert enforced() == 1
    host.stop("back", "web", address)
    docker.networks["back"] = {}
    assert enforced() == 0
    with pytest.raises(Conflict):
        host.net.add_access_rule(rule)
    host.run("back", "web2")
    docker.networks["back"] = {"web2": "web"}
    docker._members = lambda _: iter(  # type: ignore[method-assign,assignment]
        [(id_of("web2"), (container_of("web"), {"Name": "web", "On": "back"}))]
    )
    docker.look()
    assert enforced() == 1
    host.net.remove_access_rule(made.id)
    assert enforced() == 0
