"""Host ports, held by real sockets on addresses no other process uses (127.x)."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.driver import PortMapping
from netkit.errors import Conflict, InvalidSpec, NotSupported
from netkit.kernel import port_holders
from netkit.portallocator import PortAllocator, local_port_range, reserved_ports, with_host_address
from netkit.spec import PortSpec
from tests.unit.parallel import RUN

NET = f"127.55.{RUN + 1}"
IP, IP2 = f"{NET}.1", f"{NET}.2"
LOW = 21300
INSIDE = "172.17.0.2"


def want(
    port: int = 80, first: int = 0, last: int = 0, ip: str = IP, proto: str = "tcp"
) -> PortSpec:
    return PortSpec(
        proto=proto, container_port=port, host_ip=ip, host_first=first, host_last=last or first
    )


@pytest.fixture
def ports() -> Iterator[PortAllocator]:
    p = PortAllocator(lambda: range(LOW, LOW + 4), frozenset)
    yield p
    for holder in "abcdef":
        p.release(holder)


@pytest.fixture
def foreign() -> Iterator[socket.socket]:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((IP, LOW))
        s.listen()
        yield s


def test_ephemeral_ports_go_round(ports: PortAllocator) -> None:
    got = [ports.reserve("a", [want()], INSIDE)[0].host_port - LOW for _ in range(2)]
    ports.release("a")
    got += [ports.reserve("b", [want()], INSIDE)[0].host_port - LOW for _ in range(3)]
    assert got == [0, 1, 2, 3, 0]


def test_when_all_are_taken_it_says_so(ports: PortAllocator) -> None:
    ports.reserve("a", [want(n) for n in range(1, 5)], INSIDE)
    with pytest.raises(Conflict, match="all ports are allocated"):
        ports.reserve("b", [want()], INSIDE)


def test_a_port_of_ours_is_already_allocated(ports: PortAllocator) -> None:
    ports.reserve("a", [want(first=LOW)], INSIDE)
    for ip in (IP, "0.0.0.0"):
        with pytest.raises(Conflict) as error:
            ports.reserve("b", [want(first=LOW, ip=ip)], INSIDE)
        assert str(error.value) == (
            f"Bind for {ip}:{LOW} failed: port is already allocated (by a container)"
        )
    ports.reserve("b", [want(first=LOW, ip=IP2), want(first=LOW, proto="udp")], INSIDE)


def test_the_holder_is_named_once_and_outside_the_lock(ports: PortAllocator) -> None:
    asked: list[str] = []

    def called(holder: str) -> str:
        assert not ports._lock.locked()  # a name comes from the database, which has a lock, too
        asked.append(holder)
        return f"container {holder}"

    ports.called = called
    for n, holder in enumerate("abcd"):
        got = ports.reserve(holder, [want(first=LOW, last=LOW + 3)], INSIDE)
        assert got[0].host_port == LOW + n
    with pytest.raises(Conflict, match="all ports are allocated"):
        ports.reserve("e", [want(first=LOW, last=LOW + 3)], INSIDE)
    assert asked == []
    with pytest.raises(Conflict, match=r"already allocated \(by container c\)$"):
        ports.reserve("e", [want(first=LOW + 2)], INSIDE)
    held = PortMapping(proto="tcp", container_port=80, host_ip=IP, host_port=LOW)
    assert "(by container a)" in ports.restore("e", [held], INSIDE)[0]
    assert asked == ["c", "a"]


def test_a_port_of_another_process_is_in_use(ports: PortAllocator, foreign: socket.socket) -> None:
    with pytest.raises(Conflict) as error:
        ports.reserve("a", [want(first=LOW)], INSIDE)
    assert str(error.value) == (
        f"failed to bind host port for {IP}:{LOW}:{INSIDE}:80/tcp: address already in use"
    )
    assert ports.reserve("a", [want()], INSIDE)[0].host_port == LOW + 1


def test_no_other_process_gets_a_port_we_hold_until_it_is_released(ports: PortAllocator) -> None:
    ports.reserve("a", [want(first=LOW), want(first=LOW, proto="udp")], INSIDE)
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as s:
            if kind == socket.SOCK_STREAM:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                s.bind((IP, LOW))
    ports.release("a")
    with socket.socket() as s:
        s.bind((IP, LOW))


def test_a_reserved_port_accepts_no_client(ports: PortAllocator) -> None:
    ports.reserve("a", [want(first=LOW)], INSIDE)
    with socket.socket() as s:
        s.settimeout(0.05)
        with pytest.raises(TimeoutError):
            s.connect((IP, LOW))


def test_a_range_takes_the_first_free(ports: PortAllocator, foreign: socket.socket) -> None:
    got = [ports.reserve("a", [want(n, LOW, LOW + 2)], INSIDE)[0].host_port for n in (1, 2)]
    assert got == [LOW + 1, LOW + 2]
    with pytest.raises(Conflict, match=f"Bind for {IP}:{LOW} failed: all ports are allocated"):
        ports.reserve("b", [want(3, LOW, LOW + 2)], INSIDE)


def test_one_container_port_has_the_same_host_port_on_all_addresses(
    ports: PortAllocator, foreign: socket.socket
) -> None:
    got = ports.reserve("a", [want(ip=IP2), want(ip=IP)], INSIDE)
    assert [(m.host_ip, m.host_port) for m in got] == [(IP2, LOW + 1), (IP, LOW + 1)]


def test_the_same_request_twice_is_two_ports(ports: PortAllocator) -> None:
    got = ports.reserve("a", [want(), want()], INSIDE)
    assert {m.host_port for m in got} == {LOW, LOW + 1}


def test_fixed_ports_are_taken_before_automatic_ones(ports: PortAllocator) -> None:
    got = ports.reserve("a", [want(1), want(2, LOW)], INSIDE)
    assert [(m.container_port, m.host_port) for m in got] == [(1, LOW + 1), (2, LOW)]


def test_the_process_that_has_a_port_is_named(foreign: socket.socket) -> None:
    asked: list[tuple[str, str, int]] = []

    def holder(proto: str, ip: str, port: int) -> str:
        asked.append((proto, ip, port))
        return "nginx, pid 8"

    p = PortAllocator(lambda: range(LOW, LOW + 4), frozenset, holder)
    with pytest.raises(Conflict, match=r"address already in use \(by nginx, pid 8\)$"):
        p.reserve("a", [want(first=LOW)], INSIDE)
    assert asked == [("tcp", IP, LOW)]
    (taken,) = p.reserve("a", [want(first=LOW, last=LOW + 1)], INSIDE)  # the holder does not matter
    assert (taken.host_port, asked[1:]) == (LOW + 1, [])
    p.release("a")


def test_the_process_is_found_by_its_socket(foreign: socket.socket) -> None:
    described = port_holders.holder("tcp", IP, LOW)
    assert re.fullmatch(rf".+, pid {os.getpid()}", described)
    assert port_holders.holder("udp", IP, LOW) == port_holders.holder("tcp", IP, LOW + 1) == ""


def test_all_or_none(ports: PortAllocator, foreign: socket.socket) -> None:
    with pytest.raises(Conflict):
        ports.reserve("a", [want(1, LOW + 1), want(2, LOW)], INSIDE)
    with socket.socket() as s:
        s.bind((IP, LOW + 1))


def test_what_one_holder_lets_go_the_other_keeps(ports: PortAllocator) -> None:
    ports.reserve("a", [want(first=LOW)], INSIDE)
    ports.reserve("b", [want(first=LOW, ip=IP2)], INSIDE)
    ports.release("a")
    with pytest.raises(Conflict, match=f"{IP2}:{LOW} failed: port is already allocated"):
        ports.reserve("c", [want(first=LOW, ip=IP2)], INSIDE)
    ports.reserve("c", [want(first=LOW)], INSIDE)


def test_an_address_the_host_does_not_have_cannot_be_bound(ports: PortAllocator) -> None:
    with pytest.raises(Conflict, match=r"bind host port for 192\.0\.2\.77:.*: cannot assign"):
        ports.reserve("a", [want(first=LOW, ip="192.0.2.77")], INSIDE)


def test_ports_in_force_are_taken_again_and_lost_ones_are_reported(
    ports: PortAllocator, foreign: socket.socket
) -> None:
    held = [
        PortMapping(proto="tcp", container_port=80, host_ip=IP, host_port=LOW + n) for n in (0, 1)
    ]
    (problem,) = ports.restore("a", held, INSIDE)
    assert f"{IP}:{LOW}" in problem
    with pytest.raises(Conflict, match="already allocated"):
        ports.reserve("b", [want(first=LOW + 1)], INSIDE)


def test_ports_the_administrator_keeps_are_not_chosen() -> None:
    p = PortAllocator(lambda: range(LOW, LOW + 4), lambda: frozenset({LOW, LOW + 2}))
    got = p.reserve("a", [want(1), want(2)], INSIDE)
    p.release("a")
    assert [m.host_port for m in got] == [LOW + 1, LOW + 3]


def test_the_hosts_own_settings_are_read(tmp_path: Path) -> None:
    assert local_port_range(tmp_path) == range(49153, 65536)
    assert reserved_ports(tmp_path) == frozenset()
    (tmp_path / "ip_local_port_range").write_text("32768\t60999\n")
    (tmp_path / "ip_local_reserved_ports").write_text("8080,9000-9002\n")
    assert local_port_range(tmp_path) == range(32768, 61000)
    assert reserved_ports(tmp_path) == {8080, 9000, 9001, 9002}


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (want(ip="::1"), NotSupported, "IPv6 is not supported yet"),
        (want(ip="nowhere"), InvalidSpec, "invalid host address 'nowhere'"),
        (want(proto="icmp"), InvalidSpec, "invalid proto 'icmp'"),
        (want(port=0), InvalidSpec, "invalid container port 0"),
        (want(first=90, last=80), InvalidSpec, "invalid host port range 90-80"),
    ],
)
def test_what_cannot_be_published_is_refused(
    spec: PortSpec, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        with_host_address(spec, "0.0.0.0")


def test_no_address_means_the_binding_of_the_network() -> None:
    assert with_host_address(want(ip=""), IP).host_ip == IP
