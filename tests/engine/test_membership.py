"""Which networks and namespaces a container may be on, before and after they exist."""

from __future__ import annotations

import docker
import pytest

from tests.engine import wire
from tests.engine.daemon import Engine, alone, fresh, netkit_only, unlike_reference


def net(engine: Engine, *flags: str) -> str:
    name = fresh("n")
    engine.docker("network", "create", *flags, name)
    return name


def refused(engine: Engine, *args: str) -> str:
    """Return the stock CLI's error for a command that fails."""
    done = engine.docker(*args, check=False)
    assert done.returncode != 0, done.stdout
    return done.stderr


# what is not there


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--network=nosuch", "failed to set up container networking: network nosuch not found"),
        ("--network=container:nosuch", "No such container: nosuch"),
        ("--pid=container:nosuch", "failed to join PID namespace: No such container: nosuch"),
        ("--ipc=container:nosuch", "failed to join IPC namespace: No such container: nosuch"),
    ],
)
@unlike_reference("its messages differ")
def test_what_a_container_shares_need_not_exist_before_its_start(
    engine: Engine, flag: str, message: str
) -> None:
    name = fresh("c")
    done = engine.docker("run", "--name", name, flag, "busybox", "true", check=False)
    assert done.returncode == 125
    assert message in done.stderr
    assert "Unable to find image" not in done.stderr
    assert engine.state(name)["Status"] == "created"
    assert message in engine.state(name)["Error"]


@pytest.mark.parametrize("flag", ["--link=nosuch", "--volumes-from=nosuch"])
def test_who_names_a_container_that_is_not_there_does_not_read_about_images(
    engine: Engine, flag: str
) -> None:
    done = engine.docker("run", "--rm", flag, "busybox", "true", check=False)
    assert done.returncode == 125
    assert "Unable to find image" not in done.stderr


def test_a_container_made_before_its_network_starts_after_it(engine: Engine) -> None:
    network, name = fresh("n"), fresh("c")
    engine.docker("create", "--name", name, "--network", network, "busybox", "sleep", "1000")
    assert network in engine.inspect(name)["NetworkSettings"]["Networks"]
    engine.docker("rename", name, f"{name}x")
    engine.docker("network", "create", network)
    engine.docker("start", f"{name}x")
    assert engine.address(f"{name}x", network)
    engine.docker("rm", "-f", f"{name}x")


def test_a_removed_network_can_be_left_by_force(engine: Engine) -> None:
    network, name = net(engine), fresh("c")
    engine.docker("create", "--name", name, "--network", network, "busybox", "true")
    engine.docker("network", "rm", network)
    assert "not found" in refused(engine, "network", "disconnect", network, name)
    engine.docker("network", "disconnect", "-f", network, name)
    assert engine.inspect(name)["NetworkSettings"]["Networks"] == {}


def test_a_shared_namespace_is_that_of_a_container_whatever_its_name(engine: Engine) -> None:
    first, name = engine.sleeper(), fresh("c")
    modes = (f"--network=container:{first}", f"--pid=container:{first}")
    engine.docker("create", "--name", name, *modes, "busybox", "sleep", "1000")
    id = engine.inspect(first)["Id"]
    host = engine.inspect(name)["HostConfig"]
    assert (host["NetworkMode"], host["PidMode"]) == (f"container:{id}", f"container:{id}")
    engine.docker("rename", first, f"{first}x")
    engine.docker("start", name)
    assert engine.out("exec", name, "ip", "addr") == engine.out("exec", f"{first}x", "ip", "addr")
    engine.docker("rm", "-f", name, f"{first}x")


def test_networks_are_reported_by_name_however_they_were_requested(engine: Engine) -> None:
    network, name = net(engine), fresh("c")
    id = engine.out("network", "inspect", "-f", "{{.Id}}", network)
    engine.docker("create", "--name", name, "--network", id[:10], "busybox", "true")
    shown = engine.inspect(name)
    assert list(shown["NetworkSettings"]["Networks"]) == [network]
    assert shown["HostConfig"]["NetworkMode"] == id


# what does not go together


SHARED = "container sharing network namespace with another container or host cannot be connected"
NONE = "container cannot be connected to multiple networks with one of the networks in private"


@pytest.mark.parametrize("running", [True, False], ids=["running", "created"])
@unlike_reference("its messages differ")
def test_modes_and_networks_that_do_not_go_together(engine: Engine, running: bool) -> None:
    network, other = net(engine), engine.sleeper()

    def made(mode: str) -> str:
        name = fresh("c")
        verb = ("run", "-d") if running else ("create",)
        engine.docker(*verb, "--name", name, "--network", mode, "busybox", "sleep", "1000")
        return name

    alone, host, shared = made("none"), made("host"), made(f"container:{other}")
    assert NONE in refused(engine, "network", "connect", network, alone)
    assert SHARED in refused(engine, "network", "connect", network, host)
    assert SHARED in refused(engine, "network", "connect", network, shared)
    assert NONE in refused(engine, "network", "connect", "none", other)
    assert "must be created in host network mode" in refused(
        engine, "network", "connect", "host", other
    )
    assert "was created in host network mode" in refused(
        engine, "network", "disconnect", "host", host
    )
    assert list(engine.inspect(alone)["NetworkSettings"]["Networks"]) == ["none"]


def test_who_left_the_network_none_may_join_another(engine: Engine) -> None:
    network, name = net(engine), engine.sleeper("--network", "none")
    engine.docker("network", "disconnect", "none", name)
    engine.docker("network", "connect", network, name)
    assert engine.address(name, network) in engine.out("exec", name, "ip", "addr")
    engine.docker("restart", "-t", "0", name)
    assert list(engine.inspect(name)["NetworkSettings"]["Networks"]) == [network]


def test_a_network_can_be_joined_once(engine: Engine) -> None:
    network = net(engine)
    name, created = engine.sleeper("--network", network), fresh("c")
    engine.docker("create", "--name", created, "--network", network, "busybox", "true")
    assert "already exists in network" in refused(engine, "network", "connect", network, name)
    engine.docker("network", "connect", network, created)  # as it is already


# no default network


@netkit_only("dockerd needs iptables modules of its own")
def test_a_daemon_without_a_default_network_runs_containers_with_loopback_only() -> None:
    with alone("--bridge", "none") as engine:
        assert engine.run("busybox", "ls", "/sys/class/net") == "lo"
        assert engine.run("--network", "bridge", "busybox", "ls", "/sys/class/net") == "lo"
        done = engine.docker("run", "--rm", "-p", "80", "busybox", "true")
        assert "Published ports are discarded" in done.stderr
        name, network = engine.sleeper("--link", engine.sleeper()), net(engine)
        engine.docker("network", "connect", network, name)
        assert engine.address(name, network) in engine.out("exec", name, "ip", "addr")
        engine.docker("restart", "-t", "0", name)
        assert engine.run("--network", network, "busybox", "ping", "-c1", "-W2", name)


@netkit_only("it is about a docker0 of dockerd's")
def test_beside_a_docker0_of_another_engine_the_daemon_names_the_alternatives() -> None:
    wired = wire.Wire.lay()
    try:
        wire.ip("-n", wired.host, "link", "add", "docker0", "type", "bridge")
        engine = Engine(wired)
        try:
            with pytest.raises(RuntimeError) as caught:
                engine.start()
            assert "docker0 exists, and is not netkit's" in str(caught.value)
            assert "netkitd --bridge none" in str(caught.value)
            assert "Link(" not in str(caught.value)
            for argv in (("link", "add", "nk0", "type", "bridge"),
                         ("addr", "add", "172.30.0.1/16", "dev", "nk0"),
                         ("link", "set", "nk0", "up")):  # fmt: skip
                wire.ip("-n", wired.host, *argv)
            engine.flags = ("--bridge", "nk0")
            engine.start()
            engine.load_image()
            assert "172.30.0.2/16" in engine.run("busybox", "ip", "addr")
        finally:
            engine.destroy()
    finally:
        wired.remove()


def test_a_name_of_a_bridge_that_is_no_bridge_is_refused_in_words(engine: Engine) -> None:
    option = "com.docker.network.bridge.name=eth0"
    message = refused(engine, "network", "create", "-o", option, fresh("n"))
    assert "existing interface eth0 is not a bridge" in message
    assert "Link(" not in message


# options


SYSCTLS = "com.docker.network.endpoint.sysctls"


@unlike_reference("it has neither")
@pytest.mark.parametrize("word", ["IFNAME", "ifname"])
def test_settings_and_name_of_an_interface_by_the_stock_cli(engine: Engine, word: str) -> None:
    network = net(engine)
    flag = (
        f"name={network},driver-opt={SYSCTLS}=net.ipv4.conf.{word}.log_martians=1,"
        "driver-opt=com.docker.network.endpoint.ifname=lan7"
    )
    name = engine.sleeper("--network", flag)
    assert engine.out("exec", name, "cat", "/proc/sys/net/ipv4/conf/lan7/log_martians") == "1"
    other = net(engine)
    engine.docker(
        "network", "connect", "--driver-opt", f"{SYSCTLS}=net.ipv4.conf.{word}.arp_ignore=2",
        other, name,
    )  # fmt: skip
    assert engine.out("exec", name, "cat", "/proc/sys/net/ipv4/conf/eth0/arp_ignore") == "2"


@unlike_reference("it has none")
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("net.ipv4.ip_forward=1", "unrecognised network interface sysctl"),
        ("net.ipv4.conf.IFNAME.nosuch=1", "nosuch"),
        ("net.ipv4.conf.IFNAME.arp_ignore=many", "arp_ignore"),
    ],
)
def test_settings_of_an_interface_that_cannot_be_are_refused(
    engine: Engine, setting: str, message: str
) -> None:
    flag = f"name={net(engine)},driver-opt={SYSCTLS}={setting}"
    assert message in refused(engine, "run", "--network", flag, "busybox", "true")
    network, api = net(engine), engine.client.api
    settings = {network: {"DriverOpts": {SYSCTLS: setting}}}
    with pytest.raises(docker.errors.APIError) as caught:
        api.start(
            api.create_container(
                "busybox",
                "true",
                networking_config={"EndpointsConfig": settings},
                host_config={"NetworkMode": network},
            )
        )
    assert caught.value.status_code == 400


@netkit_only("dockerd warns of nothing")
def test_a_network_of_a_compose_file_may_have_foreign_options(engine: Engine) -> None:
    name, option = fresh("n"), "com.example.team=blue"
    done = engine.netkit("net", "create", "-o", option, name)
    assert "option 'com.example.team' has no effect" in done.stderr
    shown = engine.out("network", "inspect", "-f", "{{json .Options}}", name)
    assert shown == '{"com.example.team":"blue"}'
    message = refused(
        engine, "network", "create", "-o", "com.docker.network.bridge.nam=b", fresh("n")
    )
    assert "did you mean com.docker.network.bridge.name?" in message
    ipv6 = ("network", "create", "-o", "com.docker.network.enable_ipv6=true", fresh("n"))
    assert "IPv6 is not supported yet" in refused(engine, *ipv6)


# static addresses


def test_a_static_address_is_a_containers_own_while_it_is_to_be_on_that_network(
    engine: Engine,
) -> None:
    network = net(engine, "--subnet", "10.9.0.0/24")
    static = ("--network", network, "--ip", "10.9.0.5")
    made = fresh("c")
    engine.docker("create", "--name", made, *static, "busybox", "true")
    engine.docker("network", "disconnect", network, made)
    first = engine.sleeper(*static)  # the first that was made for it has left
    assert engine.address(first, network) == "10.9.0.5"
    engine.docker("network", "disconnect", network, first)
    engine.docker("network", "connect", "--ip", "10.9.0.5", network, made)
    message = refused(engine, "network", "connect", "--ip", "10.9.0.5", network, first)
    assert "in use" in message
    engine.docker("network", "connect", "--ip", "10.9.0.6", network, first)
    engine.docker("stop", "-t", "0", first)
    containers = [engine.sleeper("--network", network) for _ in range(5)]
    assert not {"10.9.0.5", "10.9.0.6"} & {engine.address(o, network) for o in containers}
    engine.docker("start", first)
    assert engine.address(first, network) == "10.9.0.6"
    engine.docker("rm", "-f", made)
    engine.docker("network", "connect", "--ip", "10.9.0.5", network, engine.sleeper())
