"""What objects look like to clients, and which of them a list shows."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from netkit.errors import InvalidSpec, NotFound
from netkit.spec import (
    EndpointRecord,
    EndpointSpec,
    NetworkRecord,
    NetworkSpec,
    PortMapping,
    SubnetSpec,
)
from netkit.timestamps import rfc3339
from runtime.api.json import (
    containers as render_containers,
)
from runtime.api.json import filter_containers as containers
from runtime.api.json import filter_images as images
from runtime.api.json import filter_networks as networks
from runtime.api.json import (
    human,
)
from runtime.api.json import (
    images as render_images,
)
from runtime.api.json import (
    networks as render_networks,
)
from runtime.api.routes.archive import go_mode
from runtime.api.routes.container_io import since_last
from runtime.api.routes.containers import given
from runtime.container.config import Config, EndpointSettings, HostConfig, PortBinding
from runtime.container.model import Container, HealthState, MountPoint, State
from tests.unit.runtime.api.fake_images import make

NOW = 1_700_000_000.0
NET = NetworkRecord(
    id="n" * 64, created="2024-01-01T00:00:00Z",
    spec=NetworkSpec(name="web", subnets=(SubnetSpec(subnet="10.1.0.0/16", gateway="10.1.0.1"),)),
)  # fmt: skip


def at(seconds_ago: float) -> str:
    return rfc3339(int((NOW - seconds_ago) * 1e9))


def container(name: str = "c", age: float = 100, **more: Any) -> Container:
    more.setdefault("config", Config(image="busybox", cmd=["sleep", "a b"]))
    more.setdefault("host_config", HostConfig(network_mode="web"))
    id = (name * 64)[:64]
    return Container(id=id, name=name, created=at(age), image="sha256:1", **more)


def endpoint(c: Container, *ports: PortMapping) -> EndpointRecord:
    return EndpointRecord(
        id="e" * 64, network=NET.id, sandbox=c.id, owner_name=c.name, address="10.1.0.5/16",
        spec=EndpointSpec(network=NET.id, names=("c", "alias")), mac="02:00:00:00:00:01",
        ifname="eth0", gateway="10.1.0.1", ports=ports,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State(), "Created"),
        (State(status="running", started_at=at(180)), "Up 3 minutes"),
        (State(status="paused", started_at=at(5)), "Up 5 seconds (Paused)"),
        (State(status="running", started_at=at(5), health=HealthState()),
         "Up 5 seconds (health: starting)"),
        (State(status="running", started_at=at(5), health=HealthState(status="healthy")),
         "Up 5 seconds (healthy)"),
        (State(status="restarting", exit_code=1, started_at=at(9), finished_at=at(2)),
         "Restarting (1) 2 seconds ago"),
        (State(status="exited", exit_code=137, started_at=at(9000), finished_at=at(7200)),
         "Exited (137) 2 hours ago"),
        (State(status="removing"), "Removal In Progress"),
        (State(status="dead"), "Dead"),
    ],
)  # fmt: skip
def test_the_status_column(state: State, words: str) -> None:
    assert human.status(state, NOW) == words


def test_a_listed_container_has_what_ps_formats() -> None:
    c = container(
        state=State(status="running", started_at=at(5)), networks={"web": EndpointSettings()}
    )
    c.config.exposed_ports = {"80/tcp": {}, "443/tcp": {}}
    live = [endpoint(c, PortMapping(proto="tcp", container_port=80, host_ip="0.0.0.0",
                                    host_port=8080))]  # fmt: skip
    shown = render_containers.summary(
        c, live, {"web": NET.id}, NOW, tags={"busybox:latest": "sha256:1"}
    )
    assert shown["Names"] == ["/c"]
    assert shown["Command"] == "sleep 'a b'"
    assert shown["Created"] == int(NOW) - 100
    assert shown["Ports"] == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 443, "Type": "tcp"},
    ]
    assert shown["NetworkSettings"]["Networks"]["web"]["IPAddress"] == "10.1.0.5"
    assert "SizeRw" not in shown
    sized = render_containers.summary(c, live, {}, NOW, tags={}, sizes=(1, 2))
    assert (sized["SizeRw"], sized["SizeRootFs"]) == (1, 2)


def test_an_image_that_lost_its_name_is_shown_by_id() -> None:
    moved = render_containers.summary(container(), (), {}, NOW, tags={"busybox:latest": "sha256:2"})
    assert moved["Image"] == "sha256:1"
    kept = render_containers.summary(container(), (), {}, NOW, tags={"busybox:latest": "sha256:1"})
    assert kept["Image"] == "busybox"


def test_an_endpoint_shows_requested_and_actual_values_by_version() -> None:
    requested = EndpointSettings(aliases=["x"], gw_priority=3)
    idle = render_networks.endpoint_settings(requested, NET.id, None)
    assert (idle["Aliases"], idle["IPAddress"], idle["NetworkID"]) == (["x"], "", NET.id)
    live = render_networks.endpoint_settings(requested, NET.id, endpoint(container()))
    assert (live["IPAddress"], live["IPPrefixLen"], live["Gateway"]) == ("10.1.0.5", 16, "10.1.0.1")
    assert live["DNSNames"] == ["c", "alias"]
    listed = render_containers.summary(container(), [endpoint(container())], {}, NOW, tags={})
    (settings,) = listed["NetworkSettings"]["Networks"].values()
    assert (settings["DNSNames"], settings["Aliases"]) == (None, None)
    assert settings["IPAddress"] == "10.1.0.5"


def test_ports_of_a_stopped_container_are_none() -> None:
    c = container(state=State(status="exited"))
    c.config.exposed_ports = {"80/tcp": {}}
    assert render_networks.ports(c, ()) == {}


def test_inspect_has_every_top_level_key_of_docker() -> None:
    c = container(mounts=[MountPoint(type="bind", source="/a", destination="/b",
                                     mode="mount,nonrecursive,ro")])  # fmt: skip
    c.extra["HostsPath"] = "/run/hosts"
    shown = render_containers.inspect(c, {"Networks": {}}, ["x1"], sizes=(5, 6))
    assert list(shown) == [
        "Id", "Created", "Path", "Args", "State", "Image", "ResolvConfPath", "HostnamePath",
        "HostsPath", "LogPath", "Name", "RestartCount", "Driver", "Platform", "MountLabel",
        "ProcessLabel", "AppArmorProfile", "ExecIDs", "HostConfig", "GraphDriver", "Mounts",
        "Config", "NetworkSettings", "SizeRw", "SizeRootFs",
    ]  # fmt: skip
    assert (shown["HostsPath"], shown["ExecIDs"]) == ("/run/hosts", ["x1"])
    assert shown["Mounts"][0]["Mode"] == "ro"
    assert shown["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": {}}
    assert shown["Config"]["Labels"] == {}
    assert "StopTimeout" not in shown["Config"]


@pytest.mark.parametrize(
    ("status", "running", "paused", "restarting"),
    [("running", 1, 0, 0), ("paused", 1, 1, 0), ("restarting", 1, 0, 1), ("exited", 0, 0, 0)],
)
def test_the_flags_of_a_state(status: str, running: int, paused: int, restarting: int) -> None:
    shown = render_containers.state(State(status=status))
    assert (shown["Running"], shown["Paused"], shown["Restarting"]) == (running, paused, restarting)


def test_a_network_by_version_and_with_its_members() -> None:
    shown = render_networks.network(NET, [endpoint(container())])
    assert shown["Containers"]["c" * 64] == {
        "Name": "c", "EndpointID": "e" * 64, "MacAddress": "02:00:00:00:00:01",
        "IPv4Address": "10.1.0.5/16", "IPv6Address": "",
    }  # fmt: skip
    assert shown["IPAM"]["Config"] == [{"Subnet": "10.1.0.0/16", "Gateway": "10.1.0.1"}]
    assert render_networks.network(NET, api=(1, 24))["EnableIPv4"]  # as dockerd 28 has it


def test_images_by_version() -> None:
    unnamed = make("", b"x")
    assert render_images.summary(unnamed)["RepoTags"] == []
    assert render_images.summary(unnamed, api=(1, 42))["RepoTags"] == ["<none>:<none>"]
    assert "VirtualSize" in render_images.inspect(unnamed, api=(1, 43))
    assert "VirtualSize" not in render_images.inspect(unnamed)


RUNNING = container("run", 30, state=State(status="running", started_at=at(20)))
EXITED = container(
    "end", 20, state=State(status="exited", exit_code=3, started_at=at(9), finished_at=at(5)),
    config=Config(image="x", cmd=["y"], labels={"k": "v"}, exposed_ports={"80/tcp": {}}),
    host_config=HostConfig(port_bindings={"80/udp": [PortBinding(host_port="8001")]}),
    networks={"web": EndpointSettings()}, mounts=[MountPoint(type="bind", destination="/d")],
)  # fmt: skip
CREATED = container("new", 10)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["new", "end", "run"]),
        ({"name": ["^/run$"]}, ["run"]),
        ({"name": ["e"]}, ["new", "end"]),
        ({"id": ["runrun"]}, ["run"]),
        ({"label": ["k"]}, ["end"]),
        ({"label": ["k=v", "z"]}, []),
        ({"label": ["k=w"]}, []),
        ({"status": ["created", "running"]}, ["new", "run"]),
        ({"exited": ["3"]}, ["end"]),
        ({"exited": ["0"]}, []),
        ({"before": ["end"]}, ["run"]),
        ({"since": ["end"]}, ["new"]),
        ({"since": ["run"], "before": ["new"]}, ["end"]),
        ({"health": ["none"]}, ["new", "end", "run"]),
        ({"health": ["healthy"]}, []),
        ({"expose": ["80"]}, ["end"]),
        ({"publish": ["8001/udp"]}, ["end"]),
        ({"publish": ["8001"]}, []),
        ({"network": ["web"]}, ["end"]),
        ({"network": ["nnnn"]}, ["end"]),
        ({"volume": ["/d"]}, ["end"]),
        ({"is-task": ["true"]}, []),
        ({"is-task": ["false"]}, ["new", "end", "run"]),
        ({"isolation": ["default"]}, ["new", "end", "run"]),
        ({"ancestor": ["busybox"]}, ["new", "end", "run"]),
    ],
)
def test_filters_of_ps(filters: Mapping[str, list[str]], names: list[str]) -> None:
    selection = containers.ContainerFilter(
        filters=filters, all=True, ancestors=frozenset({"sha256:1"}), network_ids={"web": NET.id}
    )
    assert [c.name for c in containers.select([RUNNING, EXITED, CREATED], selection)] == names


def test_without_all_only_what_runs_unless_a_limit_or_status_asks() -> None:
    every = [RUNNING, EXITED, CREATED]
    assert containers.select(every, containers.ContainerFilter()) == [RUNNING]
    assert containers.select(every, containers.ContainerFilter(limit=2)) == [CREATED, EXITED]
    selection = containers.ContainerFilter(filters={"status": ["exited"]})
    assert containers.select(every, selection) == [EXITED]
    assert containers.select(every, containers.ContainerFilter(filters={"ancestor": ["q"]})) == []


@pytest.mark.parametrize(
    "filters",
    [{"status": ["x"]}, {"exited": ["x"]}, {"health": ["x"]}, {"publish": ["x"]},
     {"expose": ["1/x"]}, {"isolation": ["hyperv"]}],
)  # fmt: skip
def test_bad_values_of_filters_are_named(filters: dict[str, list[str]]) -> None:
    name, values = next(iter(filters.items()))
    with pytest.raises(InvalidSpec, match=f"Invalid filter '{name}={values[0]}'"):
        containers.ContainerFilter(filters=filters)


def test_a_flag_among_filters_is_named_with_all_its_values() -> None:
    with pytest.raises(InvalidSpec, match=r"Invalid filter 'is-task=\[x 1\]'"):
        containers.ContainerFilter(filters={"is-task": ["x", "1"]})


def test_before_an_unknown_container_is_not_found() -> None:
    with pytest.raises(NotFound, match="No such container: x"):
        containers.select([RUNNING], containers.ContainerFilter(filters={"before": ["x"]}))


OLD = make("lib/x:1", created=at(100), labels={"k": "v"})
YOUNG = make("y:2", created=at(10))
BARE = make("", b"q", created=at(50))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [YOUNG, BARE, OLD]),
        ({"dangling": ["true"]}, [BARE]),
        ({"dangling": ["false"]}, [YOUNG, OLD]),
        ({"label": ["k=v"]}, [OLD]),
        ({"before": ["y:2"]}, [BARE, OLD]),
        ({"since": ["lib/x:1"]}, [YOUNG, BARE]),
        ({"until": ["30s"]}, [BARE, OLD]),
        ({"reference": ["y"]}, [YOUNG]),
        ({"reference": ["*"]}, [YOUNG]),
        ({"reference": ["*/*:1"]}, [OLD]),
        ({"reference": ["lib/*"]}, [OLD]),
    ],
)
def test_filters_of_images(filters: dict[str, list[str]], expected: list[Any]) -> None:
    assert images.select([OLD, YOUNG, BARE], filters, NOW) == expected


def test_path_match_does_not_cross_slashes() -> None:
    assert images.glob("a*c", "abc")
    assert not images.glob("a*c", "a/c")
    assert images.glob("[a-c]?", "bz")
    assert images.glob(r"\*", "*")
    assert not images.glob("[", "x")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["bridge", "web"]),
        ({"type": ["custom"]}, ["web"]),
        ({"type": ["builtin"]}, ["bridge"]),
        ({"name": ["we"]}, ["web"]),
        ({"id": ["nn"]}, ["web"]),
        ({"driver": ["bridge"]}, ["bridge", "web"]),
        ({"driver": ["x"]}, []),
        ({"dangling": ["true"]}, []),
        ({"scope": ["swarm"]}, []),
        ({"label": ["k"]}, []),
    ],
)
def test_filters_of_networks(filters: dict[str, list[str]], expected: list[str]) -> None:
    builtin = NetworkRecord(id="b" * 64, created="", builtin=True, spec=NetworkSpec(name="bridge"))
    shown = networks.select([NET, builtin], filters, {NET.id})
    assert [n.spec.name for n in shown] == expected


@pytest.mark.parametrize(
    ("mode", "go"),
    [
        (stat.S_IFREG | 0o644, 0o644),
        (stat.S_IFDIR | 0o755, 0x80000000 | 0o755),
        (stat.S_IFLNK | 0o777, 0x08000000 | 0o777),
        (stat.S_IFDIR | stat.S_ISVTX | 0o777, 0x80000000 | 0x100000 | 0o777),
        (stat.S_IFREG | stat.S_ISUID | 0o755, 0x800000 | 0o755),
        (stat.S_IFCHR | 0o666, 0x04000000 | 0x200000 | 0o666),
        (stat.S_IFBLK, 0x04000000),
        (stat.S_IFIFO, 0x02000000),
        (stat.S_IFSOCK, 0x01000000),
    ],
)
def test_modes_in_go_s_bits(mode: int, go: int) -> None:
    assert go_mode(mode) == go


def test_an_update_counts_only_what_the_client_meant() -> None:
    body = {"Memory": 5, "CpuShares": 0, "CpusetCpus": "", "Devices": [], "Ulimits": None,
            "PidsLimit": 0, "OomKillDisable": None, "MemorySwappiness": 0,
            "RestartPolicy": {"Name": "", "MaximumRetryCount": 0}}  # fmt: skip
    assert given(body) == ["Memory", "MemorySwappiness", "PidsLimit"]
    assert given({"RestartPolicy": {"Name": "no"}}) == ["RestartPolicy"]


def test_a_sample_of_stats_carries_the_one_before() -> None:
    first, second = ({"read": str(n), "cpu_stats": {"n": n}} for n in (1, 2))
    assert since_last(first, None)["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert since_last(second, first)["precpu_stats"] == {"n": 1}
    assert since_last(second, first)["preread"] == "1"


@pytest.mark.parametrize(
    ("given", "tags", "shown"),
    [
        ("busybox", {"busybox:latest": "mine"}, "busybox"),
        ("docker.io/library/busybox", {"busybox:latest": "mine"}, "docker.io/library/busybox"),
        ("busybox", {"busybox:latest": "other"}, "mine"),
        ("busybox", {}, "mine"),
        ("a@sha256:1", {"a@sha256:1": "mine"}, "a@sha256:1"),
        ("min", {}, "min"),
    ],
)
def test_a_container_shows_the_name_of_its_image_while_it_is_one(
    given: str, tags: dict[str, str], shown: str
) -> None:
    c = msgspec.structs.replace(
        RUNNING, image="mine", config=msgspec.structs.replace(RUNNING.config, image=given)
    )
    assert render_containers.summary(c, (), {}, 0, tags=tags)["Image"] == shown
