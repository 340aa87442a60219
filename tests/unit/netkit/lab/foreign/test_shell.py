"""Commands of nodes: what becomes of them, and that none is run as it stands."""

from __future__ import annotations

import pytest

from netkit.lab.foreign import shell
from netkit.lab.foreign.draft import Wired


def host() -> Wired:
    return Wired(name="a", interfaces={"eth0": {"segment": "s"}, "eth1": {"segment": "t"}})


ADDRESSES = {
    "ip addr add 10.0.0.1/24 dev eth1": "10.0.0.1/24",
    "ip address add dev eth1 10.0.0.1/24": "10.0.0.1/24",
    "ip a a 10.0.0.1/24 brd + dev eth1": "10.0.0.1/24",
    "/sbin/ip -4 addr replace 10.0.0.1/24 dev eth1": "10.0.0.1/24",
    "ip addr add 10.0.0.1 dev eth1": "10.0.0.1/32",
    "ifconfig eth1 10.0.0.1/24 up": "10.0.0.1/24",
    "ifconfig eth1 10.0.0.1 netmask 255.255.255.0 broadcast 10.0.0.255 up": "10.0.0.1/24",
    "ifconfig eth1 10.0.0.1": "10.0.0.1/8",
    "ifconfig eth1 172.16.0.1 up": "172.16.0.1/16",
    "ifconfig eth1 192.168.0.1 up  # by class": "192.168.0.1/24",
}


@pytest.mark.parametrize("line", ADDRESSES)
def test_an_address_is_one_of_the_interface(line: str) -> None:
    a = host()
    assert shell.carry(a, line, "") == ""
    assert a.interfaces["eth1"]["address"] == ADDRESSES[line]
    assert a.setup == []


ROUTES = {
    "ip route add default via 10.0.0.2": "default via 10.0.0.2",
    "ip r a 10.5.0.0/16 via 10.0.0.2 dev eth0": "10.5.0.0/16 via 10.0.0.2",
    "route add default gw 10.0.0.2 dev eth0": "default via 10.0.0.2",
    "route add -net 10.5.0.0/16 gw 10.0.0.2": "10.5.0.0/16 via 10.0.0.2",
    "route add -net 10.5.0.0 netmask 255.255.0.0 gw 10.0.0.2": "10.5.0.0/16 via 10.0.0.2",
    "route add -host 10.5.0.9 gw 10.0.0.2": "10.5.0.9/32 via 10.0.0.2",
}


@pytest.mark.parametrize("line", ROUTES)
def test_a_route_is_one_of_the_host(line: str) -> None:
    a = host()
    shell.add_address(a, "eth0", "10.0.0.1/24")
    assert shell.carry(a, line, "") == ""
    assert a.document()["routes"] == [ROUTES[line]]


def test_a_route_over_a_second_address_follows_the_command_that_adds_it() -> None:
    a = host()
    for line in ("ip addr add 10.0.0.1/24 dev eth0", "ip route add 10.5.0.0/16 via 10.0.1.2",
                 "ip addr add 10.0.1.1/24 dev eth0"):  # fmt: skip
        assert shell.carry(a, line, "") == ""
    assert a.document()["setup"] == ["ip addr add 10.0.1.1/24 dev eth0",
                                     "ip route add 10.5.0.0/16 via 10.0.1.2"]  # fmt: skip
    assert "routes" not in a.document()


def test_second_addresses_links_and_settings() -> None:
    a = host()
    for line in ("ip addr add 10.0.0.1/24 dev eth0", "ip addr add 10.0.1.1/24 dev eth0",
                 "ip addr add 10.255.0.1/32 dev lo", "ip link set eth0 mtu 1400 up",
                 "ip link set dev eth1 down", "ip link set address 02:00:00:00:00:0A dev eth1",
                 "ifconfig eth1 hw ether 02:00:00:00:00:0b", "ip link set lo up",
                 "sysctl -w net.ipv4.ip_forward=1", "sysctl -w net.ipv4.conf.eth0.rp_filter=0",
                 "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter"):  # fmt: skip
        assert shell.carry(a, line, "") == "", line
    assert a.document() == {
        "daemon": False,
        "interfaces": {
            "eth0": {"segment": "s", "address": "10.0.0.1/24"},
            "eth1": {"segment": "t", "mac": "02:00:00:00:00:0b"},
        },
        "sysctls": {"net.ipv4.ip_forward": 1, "net.ipv4.conf.all.rp_filter": 0},
        "setup": [
            "ip addr add 10.0.1.1/24 dev eth0", "ip addr add 10.255.0.1/32 dev lo",
            "ip link set eth0 mtu 1400", "ip link set eth1 down",
            "sysctl -qw net.ipv4.conf.eth0.rp_filter=0",
        ],
    }  # fmt: skip


LEFT = {
    "rm -rf /": "only commands that set",
    "ip netns exec other reboot": "only commands that set",
    "ip link set eth0 netns 1": "'netns' is not understood",
    "ip link add br0 type bridge": "only commands that set",
    "ip -batch /etc/passwd addr add": "only commands that set",
    "ip addr add 10.0.0.1/24 dev eth0 ; reboot": "only commands that set",
    "ip addr add $(reboot) dev eth0": "only commands that set",
    "ip addr add fd00::1/64 dev eth0": "IPv6 is off",
    "ip -6 route add default via fd00::1": "IPv6 is off",
    "ip addr add 10.0.0.1/24 dev eth7": "a has no interface 'eth7' here",
    "ip addr add 10.0.0.1/33 dev eth0": "is not a valid netmask",
    "ip addr add 224.0.0.1/24 dev eth0": "is no address of a host",
    "ip route add 10.0.0.1/24 via 10.0.0.2": "has host bits set",
    "ip route add 10.1.0.0/16 dev eth0": "a route needs a gateway",
    "ip route add default via 10.0.0.2 metric 5 onlink": "not understood",
    "ip route del default": "only the routes that are given",
    "ip link set eth0 mtu 9": "is no MTU",
    "ip link set eth0 address 01:00:00:00:00:01": "no hardware address",
    "sysctl -w kernel.core_pattern=|/x": "only commands that set",
    "sysctl -w kernel.panic=1": "no setting that is carried over",
    "sysctl -w net.ipv4.conf.eth9.rp_filter=1": "no interface 'eth9'",
    "sysctl -w net.ipv6.conf.all.forwarding=1": "IPv6 is off",
    "sysctl -p": "only commands that set",
    "echo 1 > /proc/sys/net/../kernel/panic": "no setting that is carried over",
    "ifconfig eth0 'unclosed": "No closing quotation",
    "x" * 5000: "more than 4096 characters",
}


@pytest.mark.parametrize("line", LEFT)
def test_anything_else_is_left_out_with_the_reason(line: str) -> None:
    a, plain = host(), host()
    assert LEFT[line] in shell.carry(a, line, "")
    assert a == plain


def test_a_line_of_a_shell_has_several_commands() -> None:
    line = "sh -c 'ip addr add 10.0.0.1/24 dev eth0 && ip link set eth0 up; reboot'"
    assert [*shell.commands(line)] == ["ip addr add 10.0.0.1/24 dev eth0", "ip link set eth0 up",
                                       "reboot"]  # fmt: skip


def test_a_hosts_addresses_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "MAX_ADDRESSES", 2)
    a = host()
    found = [shell.carry(a, f"ip addr add 10.0.{n}.1/24 dev {dev}", "")
             for n, dev in enumerate(["eth0", "eth0", "lo", "eth0", "lo"])]  # fmt: skip
    assert [bool(why) for why in found] == [False, False, False, True, True]
