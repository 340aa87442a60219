"""Two thousand requests, valid and not: each has an answer, and none leaves half of something."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netkit.frontends.libnetwork import messages
from tests.unit.netkit.frontends.libnetwork.dockerd import KEY, Host, id_of

DRIVER = (
    "CreateNetwork", "DeleteNetwork", "CreateEndpoint", "DeleteEndpoint", "EndpointOperInfo",
    "Join", "Leave", "ProgramExternalConnectivity", "RevokeExternalConnectivity", "DiscoverNew",
    "GetCapabilities",
)  # fmt: skip
IPAM = (
    "RequestPool", "ReleasePool", "RequestAddress", "ReleaseAddress", "GetDefaultAddressSpaces",
    "GetCapabilities",
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, "", 0, -1, 1.5, True, [], {}, [[]], {"a": {}}, "x" * 5000, "\u0000", "\ud800", "☃",
    "10.0.0.0/24", "::1", "fe80::/64", "999.1.1.1", "10.0.0.0/99", "0.0.0.0/0", 1 << 70,
    "../../etc", "; rm -rf /", {"com.docker.network.generic": 1},
    {"com.docker.network.generic": {"netkit.network": "bridge"}},
    {"com.docker.network.portmap": [{"Proto": 300}]},
)  # fmt: skip


class Requests:
    """Makes requests of which most refer to what earlier ones have made."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)
        self.pools: list[str] = ["none"]

    def next(self) -> tuple[str, str, bytes]:
        """Driver, path, body."""
        r = self.r
        ipam = r.random() < 0.4
        method = r.choice(IPAM if ipam else DRIVER)
        fields = self.fields(method)
        for _ in range(r.choice((0, 0, 0, 1, 2))):  # one or two are spoilt
            if fields:
                fields[r.choice(sorted(fields))] = r.choice(ODD)
        if r.random() < 0.05 and fields:
            del fields[r.choice(sorted(fields))]
        body = json.dumps(fields).encode()
        if r.random() < 0.05:
            body = r.choice((body[: r.randrange(len(body) + 1)], b"", b"[]", b"\xff" * 9, b"nul"))
        path = f"/{'IpamDriver' if ipam else 'NetworkDriver'}.{method}"
        return "" if ipam else "bridge", r.choice((path,) * 30 + ("/", path + "x")), body

    def fields(self, method: str) -> dict[str, Any]:
        r = self.r
        subnet = f"10.50.{r.randrange(4)}.0/24"
        ids = {"NetworkID": id_of(f"n{r.randrange(4)}"), "EndpointID": id_of(f"e{r.randrange(6)}")}
        pool = {"PoolID": r.choice(self.pools)}
        address = r.choice(("", "", f"10.50.{r.randrange(4)}.{r.randrange(256)}"))
        ports = [
            {"Proto": r.choice((6, 17, 132)), "Port": r.randrange(1, 70000),
             "HostPort": r.randrange(21400, 21440)}
            for _ in range(r.randrange(3))
        ]  # fmt: skip
        data = {"AddressSpace": "netkit-local", "Pool": subnet, "Gateway": subnet[:-4] + "1/24"}
        match method:
            case "RequestPool":
                return {"Pool": r.choice(("", subnet)), "SubPool": "", "Options": {}, "V6": False}
            case "RequestAddress":
                kind = {"RequestAddressType": "com.docker.network.gateway"}
                return {**pool, "Address": address, "Options": r.choice((None, {}, kind))}
            case "ReleasePool" | "ReleaseAddress":
                return {**pool, "Address": address}
            case "CreateNetwork":
                options = {"com.docker.network.generic": {}, "com.docker.network.internal": False}
                return {**ids, "Options": options, "IPv4Data": [data], "IPv6Data": []}
            case "CreateEndpoint":
                given = {"Address": address and f"{address}/24", "AddressIPv6": "",
                         "MacAddress": r.choice(("", "02:42:0a:00:00:09"))}  # fmt: skip
                return {**ids, "Interface": given, "Options": {}}
            case "Join":
                return {**ids, "SandboxKey": KEY, "Options": {}}
            case "ProgramExternalConnectivity":
                return {**ids, "Options": {"com.docker.network.portmap": ports}}
        return ids


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    h = Host(tmp_path / "db")
    yield h
    for holder in list(h.ports._by_holder):
        h.ports.release(holder)
    h.database.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_each_of_500_requests_has_an_answer(
    host: Host, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    before = host.things()
    requests = Requests(seed)
    refused = done = 0
    for _ in range(500):
        driver, path, body = requests.next()
        answer = host.front.plugin.call(driver, path, body)
        found = json.loads(answer.body)
        assert isinstance(found, dict)
        text = found.get("Err", "")
        assert answer.status in {404, 200 if not text or driver else 500}
        assert "internal error" not in text, (path, body, text)
        assert "\n" not in text.replace("invalid network config:\n", "")
        assert len(text) < 1000
        refused, done = refused + bool(text), done + (not text)
        if path.endswith(".RequestPool") and "PoolID" in found:
            requests.pools.append(found["PoolID"])
        _consistent(host)
    assert refused > 50
    assert done > 50
    assert not [r for r in caplog.records if r.exc_info]
    _remove_all(host)
    assert host.things() == before
    assert host.docker_rows() == []
    assert host.reserved() == 0
    assert not host.ports._by_holder


def _consistent(host: Host) -> None:
    """Every endpoint has its sandbox, every sandbox its endpoint, and what is open is ready."""
    rows = {e.sandbox for e in host.front.tables.endpoints()}
    assert rows == {s.id for s in host.net.of_engine("docker")}
    assert rows == {e.sandbox for e in host.net.endpoints()}


def _remove_all(host: Host) -> None:
    for e in host.front.tables.endpoints():
        assert host.driver("DeleteEndpoint", NetworkID=e.docker_network, EndpointID=e.id) == {}
    for pool in host.front.tables.pools():
        assert host.ipam("ReleasePool", PoolID=pool.id) == {}
    for n in host.front.tables.networks():
        assert host.driver("DeleteNetwork", NetworkID=n.id) == {}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", "invalid request: "),
        (b"[1]", "invalid request: "),
        (b'{"NetworkID": "../x"}', "invalid network id '../x'"),
        (b'{"NetworkID": 7}', "invalid request: "),
        (b"[" * 100_000, "invalid request: "),
        (b" " * (messages.LARGEST + 1), "the request has more than"),
    ],
)
def test_a_bad_request_is_refused_in_one_line(host: Host, body: bytes, error: str) -> None:
    answer = host.front.plugin.call("bridge", "/NetworkDriver.DeleteNetwork", body)
    text = json.loads(answer.body)["Err"]
    assert text.startswith(error)
    assert "\n" not in text
    answer = host.front.plugin.call("", "/IpamDriver.ReleasePool", body)
    assert answer.status == 500
