"""Bodies of the requests below /netkit/weave."""

from __future__ import annotations

from msgspec import field

from runtime.apitypes import ApiObject


class LaunchRequest(ApiObject):
    """`netkit weave launch`; with `resume`, what is left out is as in the former launch."""

    peers: list[str] = field(default_factory=list)  # HOST or HOST:PORT
    password: str = ""
    range: str = ""  # of addresses that the overlay allocates; "": 10.32.0.0/12
    default_subnet: str = ""  # of network weave, a part of the range; "": all of it
    trusted_subnets: list[str] = field(default_factory=list)
    discovery: bool | None = None  # None: true
    fastdp: bool | None = None  # None: true
    nickname: str = ""  # "": the host's name
    mtu: int = 0  # bytes, of containers on network weave; 0: the driver's default
    host: str = ""  # address at which the port is opened; "": any of IPv4
    port: int = 0  # UDP; 0: 6783
    advertise: list[str] = field(default_factory=list)  # addresses for others, before the devices'
    resume: bool = False  # go on with settings and peers of the former launch; `peers` are added

    def __repr__(self) -> str:
        return f"LaunchRequest(peers={self.peers!r}, ...)"  # the password is in no log


class ConnectRequest(ApiObject):
    """`netkit weave connect`."""

    peers: list[str] = field(default_factory=list)
    replace: bool = False  # forget all others


class ForgetRequest(ApiObject):
    """`netkit weave forget`."""

    peers: list[str] = field(default_factory=list)


class RmPeerRequest(ApiObject):
    """`netkit weave rmpeer`."""

    peer: str = ""  # nickname, or the beginning of an id
    force: bool = False


class ResetRequest(ApiObject):
    """`netkit weave reset`."""

    force: bool = False  # do not wait until another peer has the addresses


class AttachRequest(ApiObject):
    """`netkit weave attach`."""

    container: str = ""
    addresses: list[str] = field(default_factory=list)  # [ip:]A.B.C.D/LEN, net:CIDR, net:default
    names: list[str] = field(default_factory=list)  # further DNS names
    without_dns: bool = False


class DetachRequest(ApiObject):
    """`netkit weave detach`."""

    container: str = ""
    addresses: list[str] = field(default_factory=list)  # none: all


class ExposeRequest(ApiObject):
    """`netkit weave expose`."""

    addresses: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    without_masquerade: bool = False


class HideRequest(ApiObject):
    """`netkit weave hide`."""

    addresses: list[str] = field(default_factory=list)


class DnsRequest(ApiObject):
    """`netkit weave dns-add` and `dns-remove`."""

    addresses: list[str] = field(default_factory=list)
    container: str = ""
    name: str = ""
    network: str = ""  # "": the network weave
