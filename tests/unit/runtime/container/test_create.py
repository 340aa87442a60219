"""What a request and an image make together, and what is refused."""

import pytest

from netkit.errors import InvalidSpec, NetkitError, NotSupported
from runtime.apitypes import Health
from runtime.container.config import (
    Config,
    CreateRequest,
    EndpointSettings,
    HostConfig,
    Mount,
    NetworkingConfig,
    PortBinding,
    RestartPolicy,
)
from runtime.container.ports import parse_exposed, requested_ports
from runtime.images.model import ImageConfig
from runtime.lifecycle.create import CreateSpec, validate_create

IMAGE = ImageConfig(
    env=["PATH=/bin", "A=image"],
    cmd=["httpd"],
    entrypoint=["/init"],
    working_dir="/srv",
    user="web",
    labels={"from": "image", "kept": "1"},
    exposed_ports={"80/tcp": {}},
)
ID = "0123456789abcdef" * 4


def made(image: ImageConfig = IMAGE, **fields: object) -> CreateSpec:
    return validate_create(CreateRequest(image="x", **fields), image, ID)  # type: ignore[arg-type]


def test_the_image_offers_what_the_user_leaves_open() -> None:
    config = made().config
    assert (config.entrypoint, config.cmd) == (["/init"], ["httpd"])
    assert (config.working_dir, config.user) == ("/srv", "web")
    assert config.hostname == ID[:12]


def test_the_user_wins_over_the_image() -> None:
    config = made(env=["A=user", "B=2"], labels={"from": "user"}, user="0").config
    assert config.env == ["A=user", "B=2", "PATH=/bin"]
    assert config.labels == {"from": "user", "kept": "1"}
    assert config.user == "0"


def test_an_entrypoint_of_the_user_drops_the_command_of_the_image() -> None:
    config = made(entrypoint=["/bin/sh"]).config
    assert (config.entrypoint, config.cmd) == (["/bin/sh"], None)


def test_an_empty_entrypoint_resets_the_one_of_the_image() -> None:
    config = made(entrypoint=[""], cmd=["ls"]).config
    assert (config.entrypoint, config.cmd) == (None, ["ls"])


def test_a_container_without_any_command_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="no command specified"):
        made(ImageConfig())


def test_health_checks_merge_field_by_field() -> None:
    image = ImageConfig(cmd=["x"], healthcheck={"Test": ["CMD", "ok"], "Retries": 7})
    health = made(image, healthcheck=Health(interval=2_000_000_000)).config.healthcheck
    assert health == Health(test=["CMD", "ok"], retries=7, interval=2_000_000_000)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"working_dir": "relative"}, "absolute path"),
        ({"env": ["=x"]}, "invalid environment variable"),
        ({"hostname": "a b"}, "invalid hostname"),
        ({"healthcheck": Health(test=["CMD", "x"], interval=5)}, "less than 1ms"),
        ({"healthcheck": Health(test=["RUN", "x"])}, "Unknown healthcheck type"),
        ({"host_config": HostConfig(restart_policy=RestartPolicy(name="x"))}, "unknown policy"),
        (
            {
                "host_config": HostConfig(
                    auto_remove=True, restart_policy=RestartPolicy(name="always")
                )
            },
            "can't create 'AutoRemove' container with restart policy",
        ),
        ({"host_config": HostConfig(binds=["/a"])}, "invalid volume specification"),
        ({"host_config": HostConfig(binds=["/a:b"])}, "must be absolute"),
        ({"host_config": HostConfig(binds=["/a:/"])}, "destination can't be '/'"),
        ({"host_config": HostConfig(binds=["/a:/b:rx"])}, "invalid mode"),
        ({"host_config": HostConfig(binds=["/a:/b", "/c:/b/"])}, "Duplicate mount point"),
        ({"host_config": HostConfig(binds=["name:b"])}, "'b' mount path must be absolute"),
        (
            {"host_config": HostConfig(mounts=[Mount(type="nfs", target="/x")])},
            "mount type unknown",
        ),
        (
            {"hostname": "h", "host_config": HostConfig(network_mode="container:x")},
            "conflicting options: hostname and the network mode",
        ),
        (
            {
                "host_config": HostConfig(
                    network_mode="container:x", port_bindings={"80/tcp": [PortBinding()]}
                )
            },
            "port publishing and the container type network mode",
        ),
    ],
)
def test_refusals_say_what_is_wrong(fields: dict[str, object], message: str) -> None:
    image = ImageConfig(cmd=["x"])
    with pytest.raises(NetkitError, match=message) as e:
        made(image, **fields)
    assert isinstance(e.value, InvalidSpec | NotSupported)
    assert "\n" not in str(e.value)


def test_networks_come_from_mode_and_endpoints() -> None:
    assert list(made().networks) == ["bridge"]
    asked = NetworkingConfig(endpoints_config={"a": EndpointSettings(aliases=["x"]), "b": None})
    got = made(host_config=HostConfig(network_mode="a"), networking_config=asked).networks
    assert sorted(got) == ["a", "b"]
    assert got["a"].aliases == ["x"]


def test_publishing_on_the_host_network_is_a_warning() -> None:
    host = HostConfig(network_mode="host", port_bindings={"80/tcp": [PortBinding()]})
    assert "discarded" in made(host_config=host).warnings[0]


def test_publishing_exposes() -> None:
    host = HostConfig(port_bindings={"81/udp": [PortBinding()]})
    assert set(made(host_config=host).config.exposed_ports or {}) == {"80/tcp", "81/udp"}


@pytest.mark.parametrize("text", ["80/icmp", "x", "70000", "90-80", "-1"])
def test_bad_ports_are_refused(text: str) -> None:
    with pytest.raises(InvalidSpec):
        parse_exposed(text)


def test_bindings_of_every_form() -> None:
    bindings: dict[str, list[PortBinding] | None] = {
        "80/tcp": [PortBinding(), PortBinding(host_ip="127.0.0.1", host_port="8080")],
        "90-91": [],
        "53/udp": [PortBinding(host_port="5300-5310")],
        "99/tcp": None,
    }
    found = requested_ports(Config(), HostConfig(port_bindings=bindings))
    assert [*found.exposed] == ["80/tcp", "90/tcp", "91/tcp", "53/udp", "99/tcp"]
    shown = [
        (s.proto, s.container_port, s.host_ip, s.host_first, s.host_last) for s in found.published
    ]
    assert shown == [
        ("tcp", 80, "", 0, 0),
        ("tcp", 80, "127.0.0.1", 8080, 8080),
        ("tcp", 90, "", 0, 0),
        ("tcp", 91, "", 0, 0),
        ("udp", 53, "", 5300, 5310),
    ]


def test_publish_all_takes_what_is_exposed_and_not_yet_bound() -> None:
    config = Config(exposed_ports={"80/tcp": {}, "7-8/udp": {}})
    host = HostConfig(
        port_bindings={"80/tcp": [PortBinding(host_port="1")], "81/tcp": []}, publish_all_ports=True
    )
    specs = requested_ports(config, host).published
    assert [(s.proto, s.container_port) for s in specs] == [
        ("tcp", 80), ("tcp", 81), ("udp", 7), ("udp", 8),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "bindings",
    [
        {"0/tcp": [PortBinding()]},
        {"80/tcp": [PortBinding(host_ip="300.0.0.1")]},
        {"80/tcp": [PortBinding(host_port="9-8")]},
        {"80/icmp": None},
    ],
)
def test_bad_bindings_are_refused_at_creation(
    bindings: dict[str, list[PortBinding] | None],
) -> None:
    with pytest.raises(InvalidSpec):
        made(host_config=HostConfig(port_bindings=bindings))
