"""What older versions of the API ask and are shown: each row is a promise of dockerd 28."""

from __future__ import annotations

from typing import Any

import pytest

from netkit.errors import InvalidSpec
from runtime.api import older_versions
from runtime.api.server import gojson
from runtime.api.version import NEWEST, ApiVersion
from runtime.container.config import CreateRequest
from runtime.images.model import ImageConfig
from runtime.lifecycle import create


def asked(api: ApiVersion, **body: Any) -> tuple[CreateRequest, list[str]]:
    request = gojson.convert({"Image": "busybox", "Cmd": ["true"], **body}, CreateRequest)
    return request, older_versions.create_request(request, api)


@pytest.mark.parametrize(
    ("since", "host", "name", "unknown", "known"),
    [
        ((1, 25), {"AutoRemove": True}, "auto_remove", False, True),
        ((1, 40), {}, "ipc_mode", "shareable", ""),
        ((1, 42), {"ConsoleSize": [24, 80]}, "console_size", None, (24, 80)),
        ((1, 43), {"Annotations": {"a": "b"}}, "annotations", None, {"a": "b"}),
    ],
)
def test_an_option_of_a_later_version_is_ignored(
    since: ApiVersion, host: dict[str, Any], name: str, unknown: object, known: object
) -> None:
    for api, expected in (((since[0], since[1] - 1), unknown), (since, known)):
        request, _ = asked(api, HostConfig=host)
        assert request.host_config is not None
        assert getattr(request.host_config, name) == expected


def test_docker_compose_1_is_answered_as_it_was_written_for() -> None:
    agent = "docker-compose/1.29.2 docker-py/5.0.3 Linux/6.1"
    assert older_versions.spoken(NEWEST, agent) == (1, 41)
    assert older_versions.spoken((1, 38), agent) == (1, 38)
    for other in ("docker-compose/v2.40.3", "docker-sdk-python/7.0", ""):
        assert older_versions.spoken(NEWEST, other) == NEWEST


def test_an_update_of_processes_is_ignored_until_1_39() -> None:
    assert older_versions.updated(["Memory", "PidsLimit"], (1, 39)) == ["Memory"]
    assert older_versions.updated(["Memory", "PidsLimit"], (1, 40)) == ["Memory", "PidsLimit"]


def bind(**options: Any) -> dict[str, Any]:
    mount = {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True}
    return {"HostConfig": {"Mounts": [{**mount, "BindOptions": options}]}}


@pytest.mark.parametrize(
    ("since", "key", "name"),
    [
        ((1, 40), "NonRecursive", "non_recursive"),
        ((1, 42), "CreateMountpoint", "create_mountpoint"),
    ],
)
def test_bind_options_of_a_later_version_are_ignored(
    since: ApiVersion, key: str, name: str
) -> None:
    for api in ((since[0], since[1] - 1), since):
        request, _ = asked(api, **bind(**{key: True}))
        assert request.host_config
        assert request.host_config.mounts
        options = request.host_config.mounts[0].bind_options
        assert getattr(options, name) == (api == since)


@pytest.mark.parametrize(("api", "access"), [((1, 43), "readonlynonrecursive"), ((1, 44), "")])
def test_read_only_binds_reach_below_since_1_44(api: ApiVersion, access: str) -> None:
    body = bind()
    body["HostConfig"]["Binds"] = ["/c:/d:ro"]
    request, _ = asked(api, **body)
    points = create.validate_create(request, ImageConfig(), "1" * 64).mounts
    for point in points:
        assert ("readonlynonrecursive" in point.mode) == bool(access), point


def test_what_protects_more_than_an_old_version_can_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="needs API"):
        asked((1, 43), **bind(ReadOnlyForceRecursive=True))


def test_options_of_another_type_of_mount_are_refused_since_1_42() -> None:
    mount = {"Type": "bind", "Source": "/a", "Target": "/b", "TmpfsOptions": {"SizeBytes": 5}}
    body = {"HostConfig": {"Mounts": [mount]}}
    with pytest.raises(InvalidSpec, match="TmpfsOptions must not be specified on mount type 'bind"):
        asked((1, 42), **body)
    request, _ = asked((1, 41), **body)
    assert request.host_config
    assert request.host_config.mounts
    assert request.host_config.mounts[0].tmpfs_options is None


@pytest.mark.parametrize(
    ("since", "mount", "words"),
    [
        ((1, 48), {"Type": "image", "Source": "busybox"}, "Image"),
        ((1, 45), {"Type": "volume", "VolumeOptions": {"Subpath": "x"}}, "VolumeOptions.Subpath"),
    ],
)
def test_mounts_that_would_show_more_or_nothing_in_an_old_version_are_refused(
    since: ApiVersion, mount: dict[str, Any], words: str
) -> None:
    body = {"HostConfig": {"Mounts": [{**mount, "Target": "/b"}]}}
    asked(since, **body)
    with pytest.raises(InvalidSpec, match=f'{words}"? needs API v1.{since[1]} or newer'):
        asked((1, since[1] - 1), **body)


def test_endpoints_of_older_versions_are_one_and_without_a_mac_address() -> None:
    two = {"EndpointsConfig": {"a": {"MacAddress": "02:42:ac:11:00:02"}, "b": {"GwPriority": 5}}}
    with pytest.raises(InvalidSpec, match="multiple network endpoints: a, b"):
        asked((1, 43), NetworkingConfig=two)
    request, _ = asked((1, 47), NetworkingConfig=two)
    assert request.networking_config
    assert request.networking_config.endpoints_config
    b = request.networking_config.endpoints_config["b"]
    assert b is not None
    assert b.gw_priority == 0
    one = {"EndpointsConfig": {"a": {"MacAddress": "02:42:ac:11:00:02"}}}
    request, _ = asked((1, 43), NetworkingConfig=one)
    assert request.networking_config
    assert request.networking_config.endpoints_config
    a = request.networking_config.endpoints_config["a"]
    assert a is not None
    assert a.mac_address == ""


def test_a_mac_address_of_the_container_is_deprecated_since_1_44() -> None:
    assert asked((1, 43), MacAddress="02:42:ac:11:00:02")[1] == []
    assert "deprecated" in asked((1, 44), MacAddress="02:42:ac:11:00:02")[1][0]
    other = {"EndpointsConfig": {"a": {"MacAddress": "02:42:ac:11:00:03"}}}
    with pytest.raises(InvalidSpec, match="must match the endpoint-specific MAC address"):
        asked(NEWEST, MacAddress="02:42:ac:11:00:02", HostConfig={"NetworkMode": "a"},
              NetworkingConfig=other)  # fmt: skip


def test_image_inspect_has_the_container_of_a_classic_build_until_1_44() -> None:
    document = {"container": "c" * 64, "container_config": {"Cmd": ["#(nop)"]}}
    old: dict[str, Any] = {}
    older_versions.image(old, document, (1, 44))
    assert old["Container"] == "c" * 64
    assert old["ContainerConfig"]["Cmd"] == ["#(nop)"]
    assert old["ContainerConfig"]["Volumes"] is None  # docker-compose 1.29 reads it
    for broken in ({}, {"container_config": None}, {"container_config": "x"}):
        shown: dict[str, Any] = {}
        older_versions.image(shown, broken, (1, 22))
        assert shown["ContainerConfig"]["Env"] is None
    new: dict[str, Any] = {}
    older_versions.image(new, document, (1, 45))
    assert new == {}


def test_fields_of_containers_are_in_the_configuration_of_images_until_1_49() -> None:
    assert older_versions.image_config({}, (1, 49))["Hostname"] == ""
    assert set(older_versions.image_config({"Cmd": ["x"]}, (1, 50))) == {
        "User", "Env", "Cmd", "Volumes", "WorkingDir", "Entrypoint", "OnBuild", "Labels",
    }  # fmt: skip


@pytest.mark.parametrize(("api", "aliases"), [((1, 44), ["x", "1" * 12, "box"]), ((1, 45), ["x"])])
def test_aliases_hold_the_short_id_until_1_44(api: ApiVersion, aliases: list[str]) -> None:
    shown = {"Networks": {"own": {"Aliases": ["x"]}, "bridge": {"Aliases": None}}}
    older_versions.network_settings(shown, "1" * 64, "box", api)
    assert shown["Networks"] == {"own": {"Aliases": aliases}, "bridge": {"Aliases": None}}


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("BridgeNfIptables", lambda api: api < (1, 50)),
        ("BridgeNfIp6tables", lambda api: api < (1, 50)),
        ("FirewallBackend", lambda api: api >= (1, 49)),
        ("DiscoveredDevices", lambda api: api >= (1, 50)),
        ("KernelMemory", lambda api: api < (1, 42)),
    ],
)
def test_info_has_the_fields_of_its_version(name: str, there: Any) -> None:
    own = {"FirewallBackend": {"Driver": "iptables"}, "DiscoveredDevices": []}
    for minor in range(22, 52):
        assert (name in older_versions.info(own, (1, minor))) == there((1, minor)), minor


def test_info_of_older_versions_reads_as_then() -> None:
    own = {
        "SecurityOptions": ["name=seccomp,profile=builtin"],
        "RuncCommit": {"ID": "1.1"},
        "Runtimes": {"runc": {"path": "runc", "status": {"a": "b"}}},
    }
    assert older_versions.info(own, (1, 24))["SecurityOptions"] == ["seccomp"]
    assert older_versions.info(own, (1, 25))["SecurityOptions"] == ["name=seccomp,profile=builtin"]
    assert older_versions.info(own, (1, 48))["RuncCommit"] == {"ID": "1.1", "Expected": "1.1"}
    assert older_versions.info(own, (1, 49))["RuncCommit"] == {"ID": "1.1"}
    assert older_versions.info(own, (1, 43))["Runtimes"] == {"runc": {"path": "runc"}}
    assert older_versions.info(own, (1, 44))["Runtimes"] == own["Runtimes"]
    assert (
        "AllowNondistributableArtifactsCIDRs" in older_versions.info(own, (1, 46))["RegistryConfig"]
    )
