"""Links of the default network: what the parent gets, in Docker's words."""

from __future__ import annotations

import pytest

from netkit.errors import Conflict, InvalidSpec, NotFound
from netkit.spec import LinkedPorts
from runtime.container.config import Config, EndpointSettings, HostConfig
from runtime.container.links import of as links_of
from runtime.container.model import Container, State
from runtime.network import links as linking


def box(name: str, *ports: str, links: list[str] | None = None, **more: object) -> Container:
    mode = str(more.pop("mode", "bridge"))
    return Container(
        id=name.encode().hex().ljust(64, "0"),
        name=name,
        created="",
        image="",
        config=Config(exposed_ports={p: {} for p in ports} or None, hostname=f"{name}-host"),
        host_config=HostConfig(network_mode=mode, links=links),
        networks={} if ":" in mode else {mode: EndpointSettings()},
        state=State(status=str(more.pop("status", "running"))),
    )


class Town:
    def __init__(self, *boxes: Container) -> None:
        self.boxes = boxes

    def find(self, ref: str) -> Container:
        for c in self.boxes:
            if ref in {c.name, c.id}:
                return c
        raise NotFound(f"No such container: {ref}")


@pytest.mark.parametrize(
    ("text", "pair"),
    [("db", ("db", "db")), ("db:d", ("db", "d")), ("/db:/web/d", ("db", "d"))],
)
def test_a_link_is_a_name_and_perhaps_an_alias(text: str, pair: tuple[str, str]) -> None:
    assert linking.parse(text) == pair


@pytest.mark.parametrize("text", ["", ":d", "db:", "a:b:c"])
def test_what_is_no_link_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="bad format for links"):
        linking.parse(text)


def test_a_link_is_kept_by_id_and_shown_by_todays_names() -> None:
    db, web = box("db", "80/tcp"), box("web", links=["db:d"])
    town = Town(db, web)
    linking.attach(web, town.find)
    assert web.host_config.links == ["/db:/web/d"]
    db.name, web.name = "base", "front"
    linking.update_shown_links(web, town.find)
    assert web.host_config.links == ["/base:/front/d"]
    assert linking.children(web, town.find) == {"d": db}


def test_links_that_cannot_be_are_refused() -> None:
    lost = box("lost", mode="container:gone")
    town = Town(db := box("db"), box("bare", mode="host"), lost)
    for links, message in (
        (["nobody"], "could not get container for nobody: No such container: nobody"),
        (["lost"], "could not get container for gone: No such container: gone"),
        (["bare"], "host type networking .* bare is on the host's network"),
    ):
        with pytest.raises(InvalidSpec, match=message):
            linking.attach(box("web", links=links), town.find)
    assert linking.attach(box("web", links=["db"], mode="none"), Town(db).find) == []
    with pytest.raises(InvalidSpec, match="host type networking"):
        linking.attach(box("web", links=["db"], mode="host"), town.find)


def test_a_child_must_run_when_the_parent_starts() -> None:
    db, web = box("db", status="exited"), box("web", links=["db"])
    town = Town(db, web)
    linking.attach(web, town.find)
    with pytest.raises(Conflict, match="Cannot link to a non running container: /db AS /web/db"):
        linking.children(web, town.find)
    with pytest.raises(Conflict, match="was removed"):
        linking.children(web, Town(web).find)


def test_an_alias_is_its_first_childs() -> None:
    one, two, web = box("one"), box("two"), box("web", links=["one:d", "two:d", "one:d", "two:t"])
    (warning,) = linking.attach(web, Town(one, two).find)
    assert warning == "link two:d is ignored: d is another container already"
    assert links_of(web) == {"d": one.id, "t": two.id}
    assert linking.aliases([one, two, web]) == {one.id: ["web/d"], two.id: ["web/t"]}


def test_a_link_to_one_on_anothers_network_is_to_that_other() -> None:
    db, near, far = box("db"), box("near", mode="container:db"), box("far", mode="container:near")
    web = box("web", links=["far:d"])
    town = Town(db, near, far, web)
    linking.attach(web, town.find)
    assert linking.children(web, town.find) == {"d": db}
    near.host_config.network_mode = "container:far"  # in a circle
    with pytest.raises(InvalidSpec, match="circle"):
        linking.attach(box("web", links=["far"]), town.find)


def test_both_must_be_on_the_default_network_when_the_parent_starts() -> None:
    db, web = box("db", mode="mine"), box("web", links=["db"])
    town = Town(db, web)
    linking.attach(web, town.find)
    with pytest.raises(Conflict, match="Cannot link to /db, as it does not belong to the default"):
        linking.children(web, town.find)
    db.networks["bridge"] = EndpointSettings()
    assert linking.children(web, town.find) == {"db": db}
    web.networks = {"mine": EndpointSettings()}
    assert linking.children(web, town.find) == {}


def test_exposed_ports_of_the_child_are_opened() -> None:
    db, web = box("db", "53/udp", "81/tcp", "80/tcp"), box("web", links=["db"])
    town = Town(db, web)
    linking.attach(web, town.find)
    ports = (("tcp", 80), ("tcp", 81), ("udp", 53))
    assert linking.linked_ports(web, town.find) == (LinkedPorts(sandbox=db.id, ports=ports),)


def test_the_environment_is_dockers() -> None:
    db = box("db", "5432/tcp", "6000/tcp", "6001/tcp", "53/udp")
    db.config.env = ["USER=me", "PATH=/bin", "HOME=/root", "EMPTY="]
    assert linking.environment("web", "my-db", db, "172.17.0.2") == [
        "MY_DB_PORT=tcp://172.17.0.2:5432",
        "MY_DB_PORT_5432_TCP=tcp://172.17.0.2:5432",
        "MY_DB_PORT_5432_TCP_ADDR=172.17.0.2",
        "MY_DB_PORT_5432_TCP_PORT=5432",
        "MY_DB_PORT_5432_TCP_PROTO=tcp",
        "MY_DB_PORT_6000_TCP_START=tcp://172.17.0.2:6000",
        "MY_DB_PORT_6000_TCP_END=tcp://172.17.0.2:6001",
        "MY_DB_PORT_6000_TCP_PORT_START=6000",
        "MY_DB_PORT_6000_TCP_PORT_END=6001",
        "MY_DB_PORT_6000_TCP=tcp://172.17.0.2:6000",
        "MY_DB_PORT_6000_TCP_ADDR=172.17.0.2",
        "MY_DB_PORT_6000_TCP_PORT=6000",
        "MY_DB_PORT_6000_TCP_PROTO=tcp",
        "MY_DB_PORT_6001_TCP=tcp://172.17.0.2:6001",
        "MY_DB_PORT_6001_TCP_ADDR=172.17.0.2",
        "MY_DB_PORT_6001_TCP_PORT=6001",
        "MY_DB_PORT_6001_TCP_PROTO=tcp",
        "MY_DB_PORT_53_UDP=udp://172.17.0.2:53",
        "MY_DB_PORT_53_UDP_ADDR=172.17.0.2",
        "MY_DB_PORT_53_UDP_PORT=53",
        "MY_DB_PORT_53_UDP_PROTO=udp",
        "MY_DB_NAME=/web/my-db",
        "MY_DB_ENV_USER=me",
        "MY_DB_ENV_EMPTY=",
    ]


def test_the_line_in_hosts_has_each_name_once() -> None:
    db = box("db")
    assert linking.hosts_line("d", db, "172.17.0.2") == ("172.17.0.2", "d db-host db")
    assert linking.hosts_line("db", db, "172.17.0.2") == ("172.17.0.2", "db db-host")
