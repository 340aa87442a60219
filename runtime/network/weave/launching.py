"""What a launch is asked for, checked: settings of the overlay's process, and the network weave."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any

from msgspec import structs

from netkit.errors import Conflict, InvalidSpec
from netkit.overlay.core import Settings
from netkit.overlay.service import Service, new_launch
from netkit.overlay.targets import PORT, resolved
from netkit.overlay.verbs import Peer
from netkit.spec import NetworkRecord, NetworkSpec, SubnetSpec
from runtime.network.weave.requests import LaunchRequest

LABEL = "netkit.weave"  # of the network that `launch` makes
RANGE_LABEL = "netkit.weave.range"  # of the overlay when it was made
DEFAULT_RANGE = "10.32.0.0/12"
PEERS = 256  # targets of one host
PASSWORD = 253  # characters
SUBNETS = 8  # trusted ones; also addresses to advertise
SHORTEST, LONGEST = 8, 30  # lengths of a range's prefix: a /30 has two addresses


@dataclass(frozen=True, slots=True)
class HostRoute:
    """A route of the host that is no default route."""

    destination: IPv4Network
    device: str

    def __str__(self) -> str:
        return f"{self.destination} dev {self.device}"


def peers_of(texts: Sequence[str]) -> tuple[Peer, ...]:
    """All addresses of all of them.  InvalidSpec: there is no such host, or there are too many."""
    check_peers(texts)
    found = dict.fromkeys(peer for text in texts for peer in resolved(text))
    if len(found) > PEERS:
        raise InvalidSpec(f"{len(found)} addresses of peers: {PEERS} can be connected to")
    return tuple(found)


def check_peers(texts: Sequence[str]) -> None:
    """InvalidSpec: there are too many, or one is too long; before any of them is looked up."""
    if len(texts) > PEERS:
        raise InvalidSpec(f"{len(texts)} peers: {PEERS} can be connected to")
    if not all(0 < len(text) <= 253 for text in texts):
        raise InvalidSpec("a peer has 1 to 253 characters: use HOST or HOST:PORT")


def within(settings: Settings, range_: str) -> Settings:
    return structs.replace(settings, range=range_)


def resumed(request: LaunchRequest, overlay: Service) -> tuple[LaunchRequest, Settings | None]:
    """The request with the range of the former launch, and the settings that it goes on with.

    Conflict: there was no such launch; without its password this one would be in the clear.
    """
    if not request.resume or overlay.launched:
        return request, None
    former = overlay.former()
    if former is None:
        raise Conflict(
            "there is no former launch to resume on this host: launch it without --resume"
        )
    return structs.replace(request, range=request.range or former.range), former


def settings_of(
    request: LaunchRequest, range_: str, former: Settings | None = None
) -> Settings:
    """InvalidSpec.  Names of hosts are looked up, which may take seconds.

    `former`: settings to go on with; what the request gives replaces them.
    """
    if len(request.password) > PASSWORD:
        raise InvalidSpec(f"the password is longer than {PASSWORD} characters")
    if max(len(request.trusted_subnets), len(request.advertise)) > SUBNETS:
        raise InvalidSpec(f"too many trusted subnets or advertised addresses: {SUBNETS} at most")
    peers = peers_of(request.peers)
    made = Settings(
        launch=new_launch(),
        nickname=_nickname(request.nickname),
        password=request.password,
        peers=peers,
        resume=request.resume,
        founder=not peers and not request.resume,
        range=range_,
        trusted_subnets=tuple(map(_trusted, request.trusted_subnets)),
        discovery=request.discovery is not False,
        fastdp=request.fastdp is not False,
        host=_address(request.host) if request.host else "0.0.0.0",
        port=_port(request.port),
        addresses=tuple(map(_address, request.advertise)),
    )
    return made if former is None else _as_before(made, request, former)


def _as_before(made: Settings, request: LaunchRequest, former: Settings) -> Settings:
    """With what the request leaves out as in the former launch."""
    given = {
        "nickname": request.nickname, "password": request.password,
        "trusted_subnets": request.trusted_subnets, "host": request.host, "port": request.port,
        "addresses": request.advertise,
    }  # fmt: skip
    left_out = [name for name, value in given.items() if not value]
    for name in ("discovery", "fastdp"):
        if getattr(request, name) is None:
            left_out.append(name)
    return structs.replace(made, **{name: getattr(former, name) for name in left_out})


def network_spec(request: LaunchRequest, driver: str) -> NetworkSpec:
    """The network that `launch` makes, called as its driver is.  InvalidSpec."""
    whole = _range(request.range or DEFAULT_RANGE, "range")
    part = _range(request.default_subnet, "default subnet") if request.default_subnet else whole
    if not part.subnet_of(whole):
        raise InvalidSpec(f"default subnet {part} is not in the range {whole}")
    return NetworkSpec(
        name=driver,
        driver=driver,
        subnets=(SubnetSpec(subnet=str(part)),),
        options={"mtu": str(_mtu(request.mtu))} if request.mtu else {},
        labels={LABEL: "default", RANGE_LABEL: str(whole)},
    )


def same_network(request: LaunchRequest, spec: NetworkSpec, record: NetworkRecord) -> None:
    """Conflict unless the network that is there can be the one that is asked for."""
    there, name = record.spec, record.spec.name
    if there.driver != spec.driver:
        raise Conflict(
            f"there is a network {name} of the driver {there.driver}: remove it first, netkit net "
            f"rm {name}"
        )
    subnets = [s.subnet for s in there.subnets]
    if request.default_subnet and subnets != [spec.subnets[0].subnet]:
        raise Conflict(
            f"network {name} has the subnet {', '.join(subnets)}: netkit weave reset removes it"
        )
    mtu = spec.options.get("mtu")
    if mtu and mtu != there.options.get("mtu"):
        raise Conflict(
            f"network {name} has the MTU {there.options.get('mtu', 'of the driver')}: netkit weave "
            "reset removes it"
        )
    range_ = range_of(record)
    if request.range and range_ != spec.labels[RANGE_LABEL]:
        raise Conflict(
            f"this host was launched with the range {range_}: netkit weave reset makes it a new "
            "peer"
        )


def without_range(status: Mapping[str, Any]) -> list[str]:
    """Why this host has no addresses to allocate, as `GET /netkit/weave` has it; []: it has."""
    overlay = status["Status"]
    why = overlay["ipam"].get("without") if overlay else ""
    return [why] if why else []


def subnet_of(reported: object) -> str:
    """The first subnet of another host's network; "": it has none that a network can have."""
    texts = reported if isinstance(reported, list | tuple) else ()
    for text in texts:
        try:
            return str(IPv4Network(str(text)))
        except ValueError:
            continue
    return ""


def range_of(record: NetworkRecord) -> str:
    """The overlay's range at the launch that made this network."""
    return record.spec.labels.get(RANGE_LABEL, DEFAULT_RANGE)


def overlap(spec: NetworkSpec, routes: Iterable[HostRoute]) -> str:
    """A sentence on the first route that leads into the range; "": there is none."""
    whole = ip_network(spec.labels[RANGE_LABEL])
    for route in routes:
        if route.destination.overlaps(whole):
            return f"the range {whole} overlaps with the route {route} of this host"
    return ""


def _range(text: str, what: str) -> IPv4Network:
    try:
        found = IPv4Network(text)
    except ValueError as error:
        raise InvalidSpec(f"invalid {what} {text!r}: {error}") from None
    if "/" not in text or not SHORTEST <= found.prefixlen <= LONGEST:
        raise InvalidSpec(
            f"invalid {what} {text!r}: use A.B.C.D/LENGTH with a length of {SHORTEST} to {LONGEST}"
        )
    return found


def _nickname(text: str) -> str:
    name = text or socket.gethostname()[:63]
    if len(name.encode()) > 63 or not name.isprintable() or any(c.isspace() for c in name):
        raise InvalidSpec(f"invalid nickname {name!r}: up to 63 bytes without spaces")
    return name


def _trusted(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise InvalidSpec(f"invalid trusted subnet {text!r}: {error}") from None


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise InvalidSpec(f"invalid address {text!r}: this host's own is needed") from None


def _port(number: int) -> int:
    if not 0 <= number < 65535:  # the one after it is VXLAN's
        raise InvalidSpec(f"invalid port {number}: use 1 to 65534")
    return number or PORT


def _mtu(number: int) -> int:
    if not 576 <= number <= 65535:
        raise InvalidSpec(f"invalid MTU {number}: use 576 to 65535 bytes")
    return number
