"""Networks: the default bridge, user-defined ones, the modes, names and reachability."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import time
from contextlib import closing
from ipaddress import IPv4Interface, ip_address, ip_network
from typing import Any

import pytest

from netkit.testing.waiting import eventually
from tests.engine import wire
from tests.engine.daemon import Engine, fresh, netkit_only, unlike_reference
from tests.engine.wire import Echo, Names

WEB = ("busybox", "httpd", "-f", "-h", "/www")
PAGE = "hello from the engine"


def net(engine: Engine, *flags: str) -> str:
    name = fresh("n")
    engine.docker("network", "create", *flags, name)
    return name


def network(engine: Engine, name: str) -> Any:
    return json.loads(engine.out("network", "inspect", name))[0]


def get(engine: Engine, name: str, url: str, timeout: int = 0) -> str | None:
    """Return the page as the container `name` gets it; None without an answer.

    With a timeout in seconds it asks once; without, it asks again for half a minute: a server may
    not listen yet, and a busy machine is slow.
    """
    deadline = time.monotonic() + (0 if timeout else 30)
    while True:
        # Not wget's own -T: Debian 12's busybox crashes on it.
        limited = ("timeout", str(timeout or 5), "wget", "-q", "-O", "-", url)
        done = engine.docker("exec", name, *limited, check=False)
        if done.returncode == 0 or time.monotonic() > deadline:
            return done.stdout.strip() if done.returncode == 0 else None


def pings(engine: Engine, name: str, target: str, seconds: int = 4) -> bool:
    argv = ("exec", name, "ping", "-c", "1", "-W", str(seconds), target)
    return engine.docker(*argv, check=False).returncode == 0


# the default bridge


def test_docker0_is_172_17_with_gateway_1(engine: Engine) -> None:
    bridge = network(engine, "bridge")
    config = bridge["IPAM"]["Config"][0]
    assert (config["Subnet"], config.get("Gateway", "172.17.0.1")) == (
        "172.17.0.0/16",
        "172.17.0.1",
    )
    assert bridge["Options"]["com.docker.network.bridge.name"] == "docker0"
    assert "inet 172.17.0.1/16" in wire.ip("-n", engine.netns, "addr", "show", "docker0")


def test_containers_get_address_gateway_and_mac_from_docker0(engine: Engine) -> None:
    name = engine.sleeper()
    settings = engine.inspect(name)["NetworkSettings"]
    here = settings["Networks"]["bridge"]
    assert ip_address(here["IPAddress"]) in ip_network("172.17.0.0/16")
    assert (here["Gateway"], here["IPPrefixLen"]) == ("172.17.0.1", 16)
    assert settings["IPAddress"] == here["IPAddress"]
    assert f"inet {here['IPAddress']}/16" in engine.out("exec", name, "ip", "addr", "show", "eth0")
    assert here["MacAddress"] == engine.out("exec", name, "cat", "/sys/class/net/eth0/address")
    assert "default via 172.17.0.1 dev eth0" in engine.out("exec", name, "ip", "route")


def test_containers_reach_each_other_and_the_gateway_by_address(engine: Engine) -> None:
    web, client = engine.up(*WEB), engine.sleeper()
    assert get(engine, client, f"http://{engine.address(web)}/") == PAGE
    assert pings(engine, client, "172.17.0.1")


def test_the_default_bridge_has_no_names(engine: Engine, names: Names) -> None:
    web, client = engine.sleeper(), engine.sleeper("--dns", names.address)
    assert not pings(engine, client, web, seconds=1)


def test_the_host_reaches_a_container_by_address(engine: Engine) -> None:
    web = engine.up(*WEB)
    assert wire.connected(engine.netns, f"http://{engine.address(web)}/").strip() == PAGE


def test_what_leaves_is_masqueraded(engine: Engine, world: Echo) -> None:
    assert get(engine, engine.sleeper(), world.url) == wire.HOST


def test_masquerade_can_be_turned_off(engine: Engine, world: Echo) -> None:
    name = net(
        engine,
        "--subnet",
        "10.88.7.0/24",
        "-o",
        "com.docker.network.bridge.enable_ip_masquerade=false",
    )
    wire.ip("-n", engine.wire.neighbour, "route", "add", "10.88.7.0/24", "via", wire.HOST)
    try:
        client = engine.sleeper("--network", name)
        assert get(engine, client, world.url) == engine.address(client, name)
    finally:
        wire.ip("-n", engine.wire.neighbour, "route", "del", "10.88.7.0/24")


def test_an_address_is_free_again_when_its_container_stops(engine: Engine) -> None:
    name = net(engine, "--subnet", "10.88.1.0/29")
    made = [engine.sleeper("--network", name) for _ in range(5)]  # .2 to .6: all there are
    done = engine.docker("run", "-d", "--network", name, "busybox", "sleep", "9", check=False)
    assert done.returncode == 125
    assert "no available IPv4 addresses" in done.stderr
    freed = engine.address(made[2], name)
    engine.docker("rm", "-f", made[2])
    assert engine.address(engine.sleeper("--network", name), name) == freed


# files


def test_hosts_hostname_and_resolv_conf(engine: Engine) -> None:
    name = engine.sleeper()
    hosts = engine.out("exec", name, "cat", "/etc/hosts").splitlines()
    assert re.match(r"127\.0\.0\.1\s+localhost", hosts[0])
    ident = engine.inspect(name)["Id"][:12]
    assert f"{engine.address(name)}\t{ident}" in hosts
    assert engine.out("exec", name, "cat", "/etc/hostname") == ident


def test_a_user_defined_network_resolves_at_127_0_0_11(engine: Engine) -> None:
    name = engine.sleeper("--network", net(engine))
    assert "nameserver 127.0.0.11" in engine.out("exec", name, "cat", "/etc/resolv.conf")


# user-defined networks


def test_create_with_subnet_gateway_range_and_labels(engine: Engine) -> None:
    name = net(
        engine,
        "--subnet",
        "10.88.2.0/24",
        "--gateway",
        "10.88.2.254",
        "--ip-range",
        "10.88.2.128/25",
        "--aux-address",
        "printer=10.88.2.129",
        "--label",
        "a=b",
    )
    have = network(engine, name)
    config = have["IPAM"]["Config"][0]
    assert (config["Subnet"], config["Gateway"], config["IPRange"]) == (
        "10.88.2.0/24",
        "10.88.2.254",
        "10.88.2.128/25",
    )
    assert config["AuxiliaryAddresses"] == {"printer": "10.88.2.129"}
    assert (have["Labels"], have["Driver"], have["Scope"]) == ({"a": "b"}, "bridge", "local")
    first, second = (engine.sleeper("--network", name) for _ in range(2))
    addresses = {engine.address(n, name) for n in (first, second)}
    assert all(ip_address(a) in ip_network("10.88.2.128/25") for a in addresses)
    assert "10.88.2.129" not in addresses
    assert "default via 10.88.2.254" in engine.out("exec", first, "ip", "route")
    attached = network(engine, name)["Containers"]
    assert {entry["Name"] for entry in attached.values()} == {first, second}
    assert all(entry["IPv4Address"].endswith("/24") for entry in attached.values())


def test_subnets_are_chosen_apart(engine: Engine) -> None:
    made = [
        ip_network(network(engine, net(engine))["IPAM"]["Config"][0]["Subnet"]) for _ in range(3)
    ]
    made.append(ip_network("172.17.0.0/16"))
    assert not any(a.overlaps(b) for i, a in enumerate(made) for b in made[:i])


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--subnet", "172.17.5.0/24"), "overlap"),
        (("--subnet", "not-a-subnet"), "not-a-subnet"),
        (("--subnet", "10.88.3.0/24", "--gateway", "10.99.0.1"), "10.99.0.1"),
        (("--subnet", "10.88.3.0/24", "--ip-range", "10.99.0.0/25"), "10.99.0.0"),
        (("--driver", "nosuch"), "nosuch"),
        (("--gateway", "10.88.3.1"), "subnet"),
        (("--subnet", "10.88.3.0/24", "-o", "com.docker.network.driver.mtu=many"), "many"),
    ],
)
def test_a_network_that_cannot_be_is_refused(
    engine: Engine, flags: tuple[str, ...], named: str
) -> None:
    before = engine.out("network", "ls", "-q")
    done = engine.docker("network", "create", *flags, fresh("n"), check=False)
    assert done.returncode == 1
    assert named in done.stderr
    assert engine.out("network", "ls", "-q") == before


@netkit_only("it ignores options it does not know")
def test_a_misspelt_option_is_an_error_that_names_it(engine: Engine) -> None:
    option = "com.docker.network.bridge.enable_ic"
    done = engine.docker("network", "create", "-o", f"{option}=true", fresh("n"), check=False)
    assert done.returncode == 1
    assert f"unknown option '{option}'" in done.stderr


@netkit_only("it does IPv6")
def test_ipv6_is_refused_clearly(engine: Engine) -> None:
    done = engine.docker("network", "create", "--ipv6", fresh("n"), check=False)
    assert done.returncode == 1
    assert "ipv6" in done.stderr.lower()


def test_names_are_unique_and_built_in_ones_stay(engine: Engine) -> None:
    name = net(engine)
    done = engine.docker("network", "create", name, check=False)
    assert done.returncode == 1
    assert "already exists" in done.stderr
    for builtin in ("bridge", "host", "none"):
        assert engine.docker("network", "rm", builtin, check=False).returncode == 1


def test_a_network_with_containers_stays(engine: Engine) -> None:
    name = net(engine)
    container = engine.sleeper("--network", name)
    done = engine.docker("network", "rm", name, check=False)
    assert done.returncode == 1
    assert "active endpoints" in done.stderr
    engine.docker("rm", "-f", container)
    engine.docker("network", "rm", name)
    assert engine.docker("network", "inspect", name, check=False).returncode == 1


def test_ls_filters_and_prune(engine: Engine) -> None:
    used, idle = net(engine, "--label", "k=1"), net(engine, "--label", "k=2")
    engine.sleeper("--network", used)

    def listed(*flags: str) -> set[str]:
        return set(engine.out("network", "ls", "--format", "{{.Name}}", *flags).split())

    assert listed() >= {"bridge", "host", "none", used, idle}
    assert listed("-f", "label=k=1") == {used}
    assert listed("-f", f"name={idle}") == {idle}
    assert listed("-f", "driver=host") == {"host"}
    assert listed("-f", "type=custom") == {used, idle}
    assert listed("-f", "dangling=true") >= {idle}
    if engine.kind == "netkitd":  # 20.10 takes every network for unused here
        assert used not in listed("-f", "dangling=true")
    assert idle in engine.out("network", "prune", "-f")
    assert idle not in listed()
    assert used in listed()


def test_the_bridge_has_the_name_and_mtu_asked_for(engine: Engine) -> None:
    name = net(
        engine,
        "-o",
        "com.docker.network.bridge.name=nkbr9",
        "-o",
        "com.docker.network.driver.mtu=1400",
    )
    container = engine.sleeper("--network", name)
    assert engine.out("exec", container, "cat", "/sys/class/net/eth0/mtu") == "1400"
    assert "nkbr9" in wire.ip("-n", engine.netns, "link", "show", "type", "bridge")
    engine.docker("rm", "-f", container)
    engine.docker("network", "rm", name)
    assert "nkbr9" not in wire.ip("-n", engine.netns, "link")


def test_static_addresses(engine: Engine) -> None:
    name = net(engine, "--subnet", "10.88.4.0/24")
    first = engine.sleeper("--network", name, "--ip", "10.88.4.77")
    assert engine.address(first, name) == "10.88.4.77"
    taken = engine.docker(
        "run", "-d", "--network", name, "--ip", "10.88.4.77", "busybox", check=False
    )
    assert taken.returncode == 125
    assert "in use" in taken.stderr
    outside = engine.docker(
        "run", "-d", "--network", name, "--ip", "10.99.4.7", "busybox", check=False
    )
    assert outside.returncode == 125


def test_a_static_address_is_kept_over_a_restart(engine: Engine) -> None:
    name = net(engine, "--subnet", "10.88.5.0/24")
    fixed = engine.sleeper("--network", name, "--ip", "10.88.5.2")
    engine.docker("stop", fixed)
    engine.sleeper("--network", name)
    engine.docker("start", fixed, check=False)
    if engine.state(fixed)["Running"]:
        assert engine.address(fixed, name) == "10.88.5.2"


def test_two_networks_do_not_reach_each_other(engine: Engine) -> None:
    one, two = net(engine), net(engine)
    web, client = engine.up("--network", one, *WEB), engine.sleeper("--network", two)
    near = engine.sleeper("--network", one)
    url = f"http://{engine.address(web, one)}/"
    assert get(engine, near, url) == PAGE
    assert get(engine, client, url, timeout=1) is None


def test_icc_off_separates_containers_of_one_network(engine: Engine) -> None:
    name = net(engine, "-o", "com.docker.network.bridge.enable_icc=false")
    web, client = engine.up("--network", name, *WEB), engine.sleeper("--network", name)
    assert get(engine, client, f"http://{engine.address(web, name)}/", timeout=1) is None


def test_an_internal_network_has_no_way_out(engine: Engine, world: Echo) -> None:
    name = net(engine, "--internal")
    web, client = engine.up("--network", name, *WEB), engine.sleeper("--network", name)
    assert get(engine, client, f"http://{engine.address(web, name)}/") == PAGE
    assert get(engine, client, world.url, timeout=1) is None
    if engine.kind == "netkitd":  # 20.10 gives a route that leads nowhere
        assert "default" not in engine.out("exec", client, "ip", "route")
    assert network(engine, name)["Internal"] is True


# connect and disconnect


def test_connect_and_disconnect_while_running(engine: Engine) -> None:
    one, two = net(engine), net(engine)
    web, client = engine.up("--network", one, *WEB), engine.sleeper("--network", two)
    engine.docker("network", "connect", one, client)
    assert get(engine, client, f"http://{web}/") == PAGE
    links = engine.out("exec", client, "ls", "/sys/class/net").split()
    assert {"eth0", "eth1"} <= set(links)
    assert set(engine.inspect(client)["NetworkSettings"]["Networks"]) == {one, two}
    engine.docker("network", "disconnect", one, client)
    assert "eth1" not in engine.out("exec", client, "ls", "/sys/class/net").split()
    assert set(engine.inspect(client)["NetworkSettings"]["Networks"]) == {two}
    assert get(engine, client, f"http://{web}/", timeout=1) is None


def test_connect_with_address_and_alias(engine: Engine) -> None:
    name = net(engine, "--subnet", "10.88.6.0/24")
    client, other = engine.sleeper("--network", name), engine.sleeper()
    engine.docker("network", "connect", "--ip", "10.88.6.60", "--alias", "printer", name, other)
    assert engine.address(other, name) == "10.88.6.60"
    assert pings(engine, client, "printer")


def test_connections_made_before_the_start_hold_at_the_start(engine: Engine) -> None:
    one, two, name = net(engine), net(engine), fresh("c")
    engine.docker("create", "--name", name, "--network", one, "busybox", "sleep", "1000")
    engine.docker("network", "connect", two, name)
    engine.docker("start", name)
    assert engine.address(name, one)
    assert engine.address(name, two)


def test_the_default_route_moves_when_its_network_goes(engine: Engine) -> None:
    one, two = net(engine, "--subnet", "10.88.8.0/24"), net(engine, "--subnet", "10.88.9.0/24")
    name = engine.sleeper("--network", one)
    engine.docker("network", "connect", two, name)
    engine.docker("network", "disconnect", one, name)
    assert "default via 10.88.9.1" in engine.out("exec", name, "ip", "route")


def test_connecting_twice_and_disconnecting_what_is_not_connected(engine: Engine) -> None:
    one, name = net(engine), engine.sleeper()
    engine.docker("network", "connect", one, name)
    assert engine.docker("network", "connect", one, name, check=False).returncode == 1
    engine.docker("network", "disconnect", one, name)
    assert engine.docker("network", "disconnect", one, name, check=False).returncode == 1
    assert engine.docker("network", "connect", "host", name, check=False).returncode == 1


@unlike_reference("keeps the failed network in inspect")
def test_a_failed_connection_changes_nothing(engine: Engine) -> None:
    one, name = net(engine, "--subnet", "10.88.10.0/24"), engine.sleeper()
    before = engine.inspect(name)["NetworkSettings"]["Networks"]
    done = engine.docker("network", "connect", "--ip", "10.99.9.9", one, name, check=False)
    assert done.returncode == 1
    assert engine.inspect(name)["NetworkSettings"]["Networks"] == before
    assert engine.out("exec", name, "ls", "/sys/class/net").split().count("eth1") == 0


@unlike_reference("one network at create only")
def test_several_networks_at_create(engine: Engine) -> None:
    one, two = net(engine), net(engine)
    name = engine.sleeper("--network", one, "--network", two)
    assert set(engine.inspect(name)["NetworkSettings"]["Networks"]) == {one, two}


# names


@pytest.fixture
def pair(engine: Engine) -> tuple[str, str, str]:
    """A network, a web server with the alias `site`, and a client."""
    name = net(engine)
    return (
        name,
        engine.up("--network", name, "--network-alias", "site", *WEB),
        engine.sleeper("--network", name),
    )


def test_names_aliases_and_ids_resolve(engine: Engine, pair: tuple[str, str, str]) -> None:
    _, web, client = pair
    ident = engine.inspect(web)["Id"][:12]
    for host in (web, "site", ident):
        assert get(engine, client, f"http://{host}/") == PAGE, host


def test_reverse_look_up(engine: Engine, pair: tuple[str, str, str]) -> None:
    name, web, client = pair
    assert f"{web}.{name}" in engine.out("exec", client, "nslookup", engine.address(web, name))


def test_names_are_qualified_by_the_network(engine: Engine, pair: tuple[str, str, str]) -> None:
    name, web, client = pair
    assert get(engine, client, f"http://{web}.{name}/") == PAGE


def test_names_follow_rename_stop_and_start(engine: Engine, names: Names) -> None:
    name = net(engine)
    web = engine.up("--network", name, *WEB)
    client = engine.sleeper("--network", name, "--dns", names.address)
    new = fresh("web")
    engine.docker("rename", web, new)
    assert get(engine, client, f"http://{new}/") == PAGE
    assert not pings(engine, client, web, seconds=1)
    engine.docker("stop", "-t", "0", new)
    assert not pings(engine, client, new, seconds=1)
    engine.docker("start", new)
    deadline = time.monotonic() + 60
    while get(engine, client, f"http://{new}/") != PAGE:
        assert time.monotonic() < deadline


def test_an_alias_of_two_containers_gives_both(engine: Engine, pair: tuple[str, str, str]) -> None:
    name, web, client = pair
    second = engine.up("--network", name, "--network-alias", "site", *WEB)
    text = engine.out("exec", client, "nslookup", "site")
    assert engine.address(web, name) in text
    assert engine.address(second, name) in text


def test_an_unknown_name_is_not_found_quickly(engine: Engine) -> None:
    client = engine.sleeper("--network", net(engine, "--internal"))
    done = engine.docker("exec", client, "nslookup", "no.such.name.invalid", check=False)
    assert done.returncode != 0
    assert "can't find no.such.name.invalid" in done.stdout + done.stderr
    assert "timed out" not in done.stdout + done.stderr


def test_other_names_are_asked_for_outside(engine: Engine, names: Names) -> None:
    client = engine.sleeper("--network", net(engine), "--dns", names.address)
    known = engine.out("exec", client, "nslookup", wire.KNOWN_NAME)
    assert wire.KNOWN_ADDRESS in known
    unknown = engine.docker("exec", client, "nslookup", "none.beyond.test", check=False)
    assert unknown.returncode != 0
    assert "NXDOMAIN" in unknown.stdout + unknown.stderr


@unlike_reference("asks outside also from internal networks (CVE-2024-29018)")
def test_an_internal_network_asks_no_resolver_outside(engine: Engine, names: Names) -> None:
    client = engine.sleeper("--network", net(engine, "--internal"), "--dns", names.address)
    done = engine.docker("exec", client, "nslookup", wire.KNOWN_NAME, check=False)
    assert done.returncode != 0
    assert wire.KNOWN_ADDRESS not in done.stdout


def test_the_default_bridge_asks_the_name_servers_given(engine: Engine, names: Names) -> None:
    client = engine.sleeper("--dns", names.address)
    assert wire.KNOWN_ADDRESS in engine.out("exec", client, "nslookup", wire.KNOWN_NAME)


def test_names_of_another_network_are_unknown(engine: Engine, names: Names) -> None:
    web = engine.sleeper("--network", net(engine))
    stranger = engine.sleeper("--network", net(engine), "--dns", names.address)
    assert not pings(engine, stranger, web, seconds=1)


@netkit_only("it has links")
# modes


def test_network_none_has_loopback_only(engine: Engine) -> None:
    text = engine.run(
        "--network", "none", "busybox", "sh", "-c", "ls /sys/class/net; ip -4 addr show lo"
    )
    assert text.splitlines()[0] == "lo"
    assert "127.0.0.1/8" in text
    assert "eth0" not in text


def test_network_host_is_the_engine_s(engine: Engine) -> None:
    text = engine.run("--network", "host", "busybox", "ip", "addr")
    assert "docker0" in text
    assert wire.HOST in text
    hostname = engine.run("--network", "host", "busybox", "hostname")
    assert hostname == engine.run("--uts", "host", "busybox", "hostname")


def test_network_of_another_container_is_shared(engine: Engine) -> None:
    web = engine.up(*WEB)
    text = engine.run(
        "--network",
        f"container:{web}",
        "busybox",
        "sh",
        "-c",
        "wget -qO- http://127.0.0.1/; ip -4 addr show eth0; hostname",
    )
    assert PAGE in text
    assert engine.address(web) in text
    assert text.splitlines()[-1] == engine.inspect(web)["Id"][:12]


@pytest.mark.parametrize("flag", [("-p", "80:80"), ("-h", "name"), ("--dns", "192.0.2.1")])
def test_a_shared_network_refuses_options_of_its_own(engine: Engine, flag: tuple[str, str]) -> None:
    web = engine.up(*WEB)
    done = engine.docker(
        "run", "--rm", "--network", f"container:{web}", *flag, "busybox", check=False
    )
    assert done.returncode == 125
    assert "conflicting options" in done.stderr


def test_sharing_with_a_stopped_container_fails(engine: Engine) -> None:
    other = fresh("c")
    engine.docker("create", "--name", other, "busybox")
    done = engine.docker("run", "--rm", "--network", f"container:{other}", "busybox", check=False)
    assert done.returncode == 125
    assert "running container" in done.stderr or "not running" in done.stderr


@netkit_only("dockerd leaves them as they are until it is restarted")
@pytest.mark.parametrize("bridge", ["docker0", "br0", "weave"])
def test_what_another_tool_changes_of_interfaces_is_repaired_and_packets_flow(
    engine: Engine, bridge: str
) -> None:
    name = "bridge"
    if bridge == "br0":
        name = net(engine, "-o", "com.docker.network.bridge.name=br0", "--subnet", "10.99.7.0/24")
    others: tuple[str, ...] = ()
    if bridge == "weave":
        name = net(engine, "-d", "weave", "-o", "expose=true", "--subnet", "10.99.7.0/24",
                   "--gateway", "10.99.7.1")  # fmt: skip
        bridge, tap, vxlan = (f"w{x}-{network(engine, name)['Id'][:12]}" for x in "vtx")
        others = (f"set {tap} nomaster", f"set {vxlan} name foo", f"set {tap} name foo",
                  f"set {vxlan} mtu 1280", f"set {tap} netns {engine.wire.neighbour}",
                  f"set {vxlan} netns {engine.wire.neighbour}", f"del {vxlan}")  # fmt: skip
    web = engine.up("--network", name, "-p", "8480:80", *WEB)
    settings = engine.inspect(web)["NetworkSettings"]
    found = settings["Networks"][name]
    pair, sandbox = f"veth{found['EndpointID'][:11]}", settings["SandboxKey"]
    address, gateway = (f"{found[k]}/{found['IPPrefixLen']}" for k in ("IPAddress", "Gateway"))
    before = addressing(engine)
    for at, command in (
        ("", f"link del {pair}"), ("", f"link del {bridge}"), ("", f"link set {pair} nomaster"),
        ("", f"link set {pair} down"), ("", f"link set {pair} mtu 1280"),
        ("", f"addr del {gateway} dev {bridge}"),
        ("", f"route del {IPv4Interface(gateway).network} dev {bridge}"),
        (sandbox, f"addr del {address} dev eth0"), (sandbox, "route del default"),
        ("", f"link set {bridge} mtu 1390"), ("", f"link set {bridge} name foo"),
        ("", f"link set {pair} name foo"), ("", f"link set {pair} netns {engine.wire.neighbour}"),
        (sandbox, "link set eth0 name foo"),
        (sandbox, f"link set eth0 netns {engine.wire.neighbour} name foo"),
        *(("", f"link {other}") for other in others),
    ):  # fmt: skip
        if at and others:
            continue  # inside of a container it is as on any bridge
        argv = ["nsenter", f"--net={at or f'/run/netns/{engine.netns}'}", "ip", *command.split()]
        subprocess.run(argv, check=True, timeout=30)
        wire.connected(engine.wire.neighbour, f"http://{wire.HOST}:8480/")
        deadline = time.monotonic() + 60
        while addressing(engine) != before or engine.netkit("net", "check", check=False).returncode:
            assert time.monotonic() < deadline, (command, addressing(engine), engine.log_tail())
            time.sleep(0.2)
    output = engine.netkit("net", "check", name).stdout
    assert output == f"as it should be: {name}\n"
    assert engine.netkit("fw", "check", check=False).returncode == 0


@netkit_only("dockerd does not look")
def test_what_a_container_may_change_of_its_own_interfaces_is_shown_and_stays(
    engine: Engine,
) -> None:
    router = engine.up("--cap-add", "NET_ADMIN", "busybox", "sleep", "1000")
    engine.docker("exec", router, "ip", "route", "del", "default")
    done = engine.netkit("net", "check", "--format", "json", check=False)
    assert done.returncode == 1
    (drift,) = json.loads(done.stdout)["Drift"]
    assert (drift["Network"], drift["Container"]) == ("bridge", router)
    assert drift["Step"].startswith("+ route to 0.0.0.0/0 via 172.17.0.1 on eth0")
    assert "CAP_NET_ADMIN" in drift["Note"]
    assert "default" not in engine.docker("exec", router, "ip", "route").stdout
    assert engine.netkit("net", "check", "nosuch", check=False).returncode == 1


def addressing(engine: Engine) -> set[tuple[str, str, int, tuple[str, ...]]]:
    """Return for each link its name, the bridge it is a port of, its MTU, its IPv4 addresses."""
    links = json.loads(wire.run(engine.netns, "ip", "-j", "-4", "addr").stdout)
    ports = json.loads(wire.run(engine.netns, "ip", "-j", "link").stdout)
    master = {link["ifname"]: (link.get("master", ""), link["mtu"]) for link in ports}
    at = {link["ifname"]: [a["local"] for a in link.get("addr_info", ())] for link in links}
    return {(name, *master[name], tuple(at.get(name, ()))) for name in master}


def dump(engine: Engine) -> list[str]:
    """Links, addresses, routes, rules of the host, without counters, and the networks' rows."""
    commands = (
        "ip -d -o link", "ip -4 -o addr", "ip -4 route show table all", "bridge fdb",
        "bridge -d link", "nft list ruleset", "iptables-save", "cat /proc/sys/net/ipv4/ip_forward",
    )  # fmt: skip
    found = [wire.run(engine.netns, *command.split()).stdout for command in commands]
    with closing(sqlite3.connect(engine.root / "netkit.db")) as db:
        for table in ("networks", "pools", "addresses", "endpoints"):
            found.append(str(sorted(db.execute(f"SELECT * FROM {table}"))))
    varying = r"\w+_timer +[\d.]+|\[\d+:\d+\]|^#.*$|packets \d+ bytes \d+|\d+sec"
    return [re.sub(varying, "", each, flags=re.M) for each in found]


def settled_dump(engine: Engine) -> list[str]:
    """Once nothing of other tests is still about to go."""
    last = [dump(engine)]

    def same() -> bool:
        last.append(dump(engine))
        return last[-1] == last[-2]

    eventually(same, 20, 0.5)
    return last[-1]


@netkit_only("dockerd has no plans")
def test_what_creating_and_removing_would_do_is_shown_and_not_done(engine: Engine) -> None:
    name, bridge = fresh("n"), fresh("b")
    flags = ("--subnet", "10.87.0.0/24", "-o", f"com.docker.network.bridge.name={bridge}")
    before = settled_dump(engine)
    shown = engine.netkit("net", "create", "--dry-run", *flags, name).stdout.splitlines()
    assert shown[0] == (
        f"network {name}, driver bridge, subnet 10.87.0.0/24 gateway 10.87.0.1, would be created:"
    )
    assert f"+ bridge {bridge}" in shown
    assert dump(engine) == before
    engine.netkit("net", "create", *flags, name)
    after = dump(engine)
    planned = engine.netkit("net", "plan", name)
    assert planned.stdout == "nothing is to be done\n"
    again = engine.netkit("net", "create", "--dry-run", *flags, name, check=False)
    assert (again.returncode, again.stderr) == refusal(engine, "create", *flags, name)
    removal = json.loads(
        engine.netkit("net", "rm", "--dry-run", "--format", "json", name).stdout
    )
    assert removal["Steps"][-1]["Action"] == "delete"
    assert {s["Resource"] for s in removal["Steps"]} >= {f"bridge {bridge}"}
    assert dump(engine) == after
    engine.netkit("net", "rm", name)
    assert dump(engine) == before


def refusal(engine: Engine, *argv: str) -> tuple[int, str]:
    done = engine.netkit("net", *argv, check=False)
    assert done.returncode
    return done.returncode, done.stderr
