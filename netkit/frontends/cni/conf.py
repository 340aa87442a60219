"""A network configuration as a plugin gets it on its standard input.  Pure.

Keys of netkit's own are those of a network: docs/cni.md.  What is not known is refused, as the
specification has it (code 2), since a misspelt key would have no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Interface, ip_address, ip_interface

import msgspec

from netkit.frontends.cni.environment import ID, Call
from netkit.frontends.cni.errors import (
    CONFIGURATION,
    INCOMPATIBLE,
    UNDECODABLE,
    UNSUPPORTED,
    CniError,
)
from netkit.spec import PortSpec

VERSIONS = ("0.4.0", "1.0.0", "1.1.0")
MAX_BYTES = 1 << 20  # of a configuration, as of any JSON body
MAX_SHOWN = 200  # characters of a value in a message
PROTOCOLS = ("tcp", "udp", "sctp")


class Dns(msgspec.Struct, frozen=True):
    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class PortMap(msgspec.Struct, frozen=True, rename="camel"):
    host_port: int
    container_port: int
    protocol: str = "tcp"
    host_ip: str = msgspec.field(name="hostIP", default="")


class RuntimeDns(msgspec.Struct, frozen=True):
    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class RuntimeConfig(msgspec.Struct, frozen=True, rename="camel"):
    port_mappings: tuple[PortMap, ...] | None = None
    ips: tuple[str, ...] | None = None
    mac: str | None = None
    # Of a network, or, as podman has it, by network.
    aliases: dict[str, tuple[str, ...]] | tuple[str, ...] | None = None
    dns: RuntimeDns | None = None


class OfArgs(msgspec.Struct, frozen=True):
    """`args.cni`, by https://www.cni.dev/docs/conventions/."""

    ips: tuple[str, ...] = ()
    mac: str = ""
    aliases: tuple[str, ...] = ()


class Args(msgspec.Struct, frozen=True):
    cni: OfArgs = OfArgs()


class Ipam(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str = "netkit"


class Valid(msgspec.Struct, frozen=True):
    """An attachment that is still in use (GC)."""

    container_id: str = msgspec.field(name="containerID")
    ifname: str


class Conf(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A configuration; None and "" mean that it does not say."""

    cni_version: str = ""
    cni_versions: tuple[str, ...] = ()
    name: str = ""
    type: str = ""
    network: str = ""  # an existing network of netkit's
    driver: str = ""
    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    internal: bool | None = None
    scope: str = ""
    ipam_driver: str = ""
    options: dict[str, str] | None = None
    is_default_gateway: bool = True
    ipam: Ipam | None = None
    dns: Dns = Dns()
    args: Args = Args()
    capabilities: dict[str, bool] = {}
    runtime_config: RuntimeConfig = RuntimeConfig()
    prev_result: msgspec.Raw = msgspec.Raw(b"null")
    disable_check: bool = False
    disable_gc: bool = msgspec.field(name="disableGC", default=False)
    daemon: str = ""  # "none": without netkitd; for netkit-cni
    socket: str = ""  # of netkitd; likewise
    valid: tuple[Valid, ...] | None = msgspec.field(name="cni.dev/valid-attachments", default=None)
    valid_before: tuple[Valid, ...] | None = msgspec.field(  # its name before 1.1.0 was complete
        name="cni.dev/attachments", default=None
    )

    @property
    def asked(self) -> str:
        """Name of the network of netkit's that is meant."""
        return self.network or self.name


KEYS = frozenset(f.encode_name for f in msgspec.structs.fields(Conf))
RUNTIME_KEYS = frozenset(f.encode_name for f in msgspec.structs.fields(RuntimeConfig))


def parse(text: str) -> Conf:
    """CniError 6 for what is no JSON object, 2 for an unknown key, 7 for a wrong value."""
    raw = _object(text)
    for name in raw.keys() - KEYS:
        if "/" not in name:  # those of the specification and of runtimes: "cni.dev/..."
            raise _unsupported(name, raw[name])
    try:
        conf = msgspec.json.decode(text, type=Conf)
        runtime = msgspec.json.decode(raw.get("runtimeConfig", b"{}"), type=dict[str, msgspec.Raw])
    except (msgspec.ValidationError, RecursionError) as error:
        raise CniError(CONFIGURATION, f"invalid network configuration: {error}") from None
    for name in runtime.keys() - RUNTIME_KEYS:
        raise _unsupported(f"runtimeConfig.{name}", runtime[name])
    _check(conf)
    return conf


def lenient(text: str) -> tuple[str, str]:
    """(cniVersion, name) of one of which nothing else matters: a DEL must not fail for it."""
    raw = _object(text)
    found = []
    for key in ("cniVersion", "name"):
        try:
            found.append(msgspec.json.decode(raw.get(key, b'""'), type=str))
        except msgspec.DecodeError:
            found.append("")
    return found[0], found[1]


def _object(text: str) -> dict[str, msgspec.Raw]:
    if len(text) > MAX_BYTES:
        most = f"{MAX_BYTES >> 20} MiB at most"
        raise CniError(UNDECODABLE, f"the configuration is too large: {most}")
    try:
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise CniError(UNDECODABLE, f"the configuration is no JSON object: {error}") from None


def _unsupported(name: str, value: msgspec.Raw) -> CniError:
    shown = bytes(value).decode(errors="replace")[:MAX_SHOWN]
    return CniError(UNSUPPORTED, f"unsupported field {name[:MAX_SHOWN]!r} with value {shown}")


def _check(conf: Conf) -> None:
    if not conf.name:
        raise CniError(CONFIGURATION, "the network configuration has no name")
    if not ID.fullmatch(conf.name):
        raise CniError(CONFIGURATION, f"invalid network name {conf.name[:MAX_SHOWN]!r}")
    if conf.ipam is not None and conf.ipam.type != "netkit":
        raise CniError(
            UNSUPPORTED,
            f"unsupported field 'ipam' with type {conf.ipam.type!r}: addresses are netkit's: leave "
            "it out, and give subnet, ipRange and gateway",
        )
    if conf.daemon not in {"", "none"}:
        raise CniError(CONFIGURATION, f"invalid daemon {conf.daemon!r}: none, or leave it out")


def check_version(version: str) -> None:
    """CniError 1 unless it is one of ours."""
    if version not in VERSIONS:
        raise CniError(
            INCOMPATIBLE,
            f"incompatible CNI versions: the configuration has {version!r}",
            f"netkit has {', '.join(VERSIONS)}",
        )


def ports(conf: Conf) -> tuple[PortSpec, ...]:
    """What the portMappings capability asks to publish, each once.  CniError 7."""
    found: dict[PortSpec, None] = {}
    for each in conf.runtime_config.port_mappings or ():
        protocol = each.protocol.lower() or "tcp"
        if protocol not in PROTOCOLS:
            raise _port(f"protocol {each.protocol[:MAX_SHOWN]!r}: {', '.join(PROTOCOLS)}")
        for what, number in (("host", each.host_port), ("container", each.container_port)):
            if not 0 < number < 1 << 16:
                raise _port(f"{what} port {number}: from 1 to 65535")
        port = PortSpec(
            proto=protocol, container_port=each.container_port, host_ip=_host_ip(each.host_ip),
            host_first=each.host_port, host_last=each.host_port,
        )  # fmt: skip
        found[port] = None
    return tuple(found)


def _port(what: str) -> CniError:
    return CniError(CONFIGURATION, f"invalid port mapping: {what}")


def _host_ip(text: str) -> str:
    if text in {"", "0.0.0.0"}:
        return ""
    try:
        address = ip_address(text)
    except ValueError:
        raise _port(f"hostIP {text[:MAX_SHOWN]!r} is no address") from None
    if address.version != 4:
        raise _port(f"hostIP {address}: IPv6 is not supported yet")
    return str(address)


def addresses(conf: Conf, call: Call) -> tuple[str, ...]:
    """Addresses requested for the container, without the length of their prefix, each once.

    A runtime may give one by CNI_ARGS, by the ips capability, by args.cni, and by several of them.
    CniError 7.
    """
    found: dict[str, None] = {}
    for text in (*call.ips, *(conf.runtime_config.ips or ()), *conf.args.cni.ips):
        try:
            address = ip_interface(text)
        except ValueError:
            raise CniError(
                CONFIGURATION, f"invalid requested address {text[:MAX_SHOWN]!r}"
            ) from None
        if not isinstance(address, IPv4Interface):
            raise CniError(
                CONFIGURATION, f"IPv6 is not supported yet: leave out address {address.ip}"
            )
        found[str(address.ip)] = None
    return tuple(found)


def mac(conf: Conf, call: Call) -> str:
    return call.mac or conf.runtime_config.mac or conf.args.cni.mac


def aliases(conf: Conf) -> tuple[str, ...]:
    """More DNS names of the container on this network, each once.  CniError 7."""
    asked = conf.runtime_config.aliases or ()
    if isinstance(asked, Mapping):
        asked = asked.get(conf.name, ())
    found = tuple(dict.fromkeys((*asked, *conf.args.cni.aliases)))
    for name in found:
        if not name.isprintable() or any(c.isspace() for c in name) or not 0 < len(name) <= 253:
            raise CniError(CONFIGURATION, f"invalid alias {name[:MAX_SHOWN]!r}")
    return found
