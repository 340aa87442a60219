"""The flags of `weave launch`: those of weave's that are honoured, those that are not, and why.

Flags and environment variables are the ones of weave 0.11 to 2.8.  docs/from-weave.md lists them.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from netkit.cli.commands import complain
from netkit.cli.flags import Flag, Options, alias, many, switch, text, value
from netkit.cli.values import comma_list, unsigned
from netkit.client.failure import ENGINE_ERROR, Failure, Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Json = dict[str, Any]

DOMAIN = "weave.local"
HIGHEST_PORT = HIGHEST_MTU = 65535

_RANGE = text("ipalloc-range", "Range that addresses are allocated from (default 10.32.0.0/12)")
_SUBNET = text(
    "ipalloc-default-subnet", "Part of the range for containers that ask for no subnet (default"
    " all of it)",
)  # fmt: skip
_ALONE = switch("no-discovery", "Connect to the given peers only, not to those that they know")


def _domain(given: str) -> str:
    if given.rstrip(".") != DOMAIN:
        raise ValueError(f"names of the overlay are in {DOMAIN}")
    return given


HONOURED: tuple[Flag, ...] = (
    text("password", "Encrypt, and let in only who knows it; other users see it in the list of"
         " processes: prefer --password-file, or WEAVE_PASSWORD"),
    text("password-file", "Read the password from a file; - is standard input"),
    _RANGE,
    _SUBNET,
    many("trusted-subnets", "Subnets of peers to which data goes unencrypted", kind="strings",
         parse=comma_list),
    _ALONE,
    text("nickname", "Name of this peer (default the host's name)"),
    switch("no-fastdp", "Never use the kernel's VXLAN, always user space (also WEAVE_NO_FASTDP)"),
    value("mtu", "uint16", unsigned(HIGHEST_MTU),
          "MTU in bytes of containers on the overlay (default 1400; also WEAVE_MTU)"),
    text("host", "Address of this host to listen on (default all)"),
    value("port", "uint16", unsigned(HIGHEST_PORT),
          "UDP port of all peers (default 6783; also WEAVE_PORT)"),
    many("advertise-address", "Address where other hosts reach this one, behind a NAT, say",
         kind="strings", parse=comma_list),
    switch("resume", "Go on with the settings and peers of the last launch; what is given"
           " replaces, or adds to them"),
    Flag(name="dns-domain", help=f"Domain of names: {DOMAIN}", parse=_domain, default="",
         hidden=True),
    alias(_RANGE, "iprange"),
    alias(_SUBNET, "ipsubnet"),
    alias(_ALONE, "nodiscovery"),
)  # fmt: skip

_PROXY = "there is no proxy, the engine itself puts containers on the overlay"
_DNS = "the engine's resolver answers containers of every network, and asks the host's servers"
_PLUGIN = "the driver weave is part of the engine"
_CONTAINER = "the overlay runs in no container"
_SUPERVISED = "the engine starts the overlay again after a crash or a reboot: use `weave stop`"
_LOG = "see netkitd --log-level"

# name: (a switch, why it has no effect)
WITHOUT_EFFECT: Mapping[str, tuple[bool, str]] = {
    "conn-limit": (False, "a peer keeps a few connections only, some 2 log2 of the peers there"
                          " are"),
    "ipalloc-init": (False, "no quorum is waited for: who is launched without peers founds the"
                            " range"),
    "no-dns": (True, _DNS), "dns-listen-address": (False, _DNS), "dns-ttl": (False, _DNS),
    "dns-fallback-timeout": (False, _DNS), "resolv-conf": (False, _DNS),
    "plugin": (True, _PLUGIN), "plugin-v2": (True, _PLUGIN), "plugin-socket": (False, _PLUGIN),
    "plugin-mesh-socket": (False, _PLUGIN),
    "plugin-v2-multicast": (True, "networks carry multicast: see the driver's option multicast"),
    "proxy": (True, _PROXY), "without-dns": (True, _PROXY),
    "no-multicast-route": (True, _PROXY), "no-rewrite-hosts": (True, _PROXY),
    "no-default-ipalloc": (True, _PROXY), "hostname-from-label": (False, _PROXY),
    "hostname-match": (False, _PROXY), "hostname-replacement": (False, _PROXY),
    "rewrite-inspect": (True, _PROXY),
    "no-restart": (True, _SUPERVISED), "log-level": (False, _LOG), "debug": (True, _LOG),
    "pkt-debug": (True, _LOG), "profile": (False, _LOG),
    "bufsz": (False, "frames are not captured: there is no buffer for them"),
    "no-bridged-fastdp": (True, "there is no Open vSwitch datapath"),
    "no-masq-local": (True, "published ports keep the client's address anyway"),
    "db-prefix": (False, _CONTAINER), "proc-path": (False, _CONTAINER),
    "host-root": (False, _CONTAINER),
    "min-protocol-version": (False, "all peers are netkit's, and agree on a version"),
}  # fmt: skip

_API = "is not supported: the API is netkitd's, see docs/weave-internals.md"
_TLS = "is not supported: there is no proxy; netkitd has --tls flags for its API"
_CLOUD = "is not supported: Weave Cloud has ended; name peers"
_BRIDGE = "is not supported: the engine makes a bridge for each network"

# name: (a switch, why it is refused)
REFUSED: Mapping[str, tuple[bool, str]] = {
    "name": (False, "is not supported: a peer's id follows from its keys; use --nickname"),
    "print-peer-name": (True, "is not supported: use `weave status`"),
    "token": (False, _CLOUD), "peer-discovery-url": (False, _CLOUD),
    "awsvpc": (True, "is not supported: routes of a cloud are not written; leave it out"),
    "expect-npc": (True, "is not supported: there is no Kubernetes; use `netkit fw`"),
    "http-addr": (False, _API), "status-addr": (False, _API), "metrics-addr": (False, _API),
    "tls": (True, _TLS), "tlsverify": (True, _TLS), "tlscacert": (False, _TLS),
    "tlscert": (False, _TLS), "tlskey": (False, _TLS),
    "datapath": (False, _BRIDGE), "weave-bridge": (False, _BRIDGE),
    "docker-bridge": (False, _BRIDGE),
}  # fmt: skip
_ROUTE = "multicast goes by the interface that the container's routes name"
_HOSTS = "/etc/hosts has no names of other hosts"
# Of `weave run` and `weave attach`.
WITHOUT_DNS = switch("without-dns", "Give it no names on the overlay")
CONTAINERS_WITHOUT_EFFECT: Mapping[str, str] = {
    "no-multicast-route": _ROUTE, "no-rewrite-hosts": _HOSTS, "rewrite-hosts": _HOSTS,
    "with-dns": "containers on the overlay have names unless --without-dns is given",
}  # fmt: skip
# Environment variables of weave's that change nothing.
UNREAD: Mapping[str, str] = {
    "WEAVE_HTTP_ADDR": _API, "WEAVE_STATUS_ADDR": _API,
    "WEAVE_CONTAINER_NAME": f"has no effect: {_CONTAINER}",
    "WEAVE_DOCKER_ARGS": f"has no effect: {_CONTAINER}",
    "WEAVEEXEC_DOCKER_ARGS": f"has no effect: {_CONTAINER}",
    "WEAVE_NO_BRIDGED_FASTDP": f"has no effect: {WITHOUT_EFFECT['no-bridged-fastdp'][1]}",
    "DOCKER_BRIDGE": _BRIDGE, "AWSVPC": REFUSED["awsvpc"][1],
}  # fmt: skip


def note(options: Options, without_effect: Mapping[str, str]) -> None:
    """Say of each flag that was given and has no effect why."""
    for name in sorted(options.given & set(without_effect)):
        complain(f"--{name} has no effect: {without_effect[name]}")


def _kind(bare: bool) -> str:
    return "bool" if bare else "string"


LAUNCH: tuple[Flag, ...] = (
    *HONOURED,
    *(Flag(name=name, kind=_kind(bare), hidden=True)
      for name, (bare, _) in WITHOUT_EFFECT.items()),
    *(Flag(name=name, kind=_kind(bare), hidden=True, refused=why)
      for name, (bare, why) in REFUSED.items()),
    Flag(name="endpoint", short="H", hidden=True,
         refused="is not supported: there is no proxy; the engine's address is given before the"
         " command: weave -H ADDRESS launch"),
)  # fmt: skip


def body(options: Options, environ: Mapping[str, str]) -> Json:
    """Return what was asked for, with the keys of POST /netkit/weave/launch.

    Misuse for flags and variables that are wrong; Failure: the file of the password cannot be read.
    """
    note(options, {name: why for name, (_, why) in WITHOUT_EFFECT.items()})
    for name in sorted(UNREAD):
        if environ.get(name):
            complain(f"{name} {UNREAD[name]}")
    numbers = {
        "Mtu": _number(options, "mtu", environ, "WEAVE_MTU"),
        "Port": _number(options, "port", environ, "WEAVE_PORT"),
    }
    texts = {
        "Password": _password(options, environ), "Nickname": options.text("nickname"),
        "Range": options.text("ipalloc-range"), "Host": options.text("host"),
        "DefaultSubnet": options.text("ipalloc-default-subnet"),
    }  # fmt: skip
    lists = {
        "Peers": list(options.args), "TrustedSubnets": options.texts("trusted-subnets"),
        "Advertise": options.texts("advertise-address"),
    }  # fmt: skip
    found: Json = {key: given for key, given in {**numbers, **texts, **lists}.items() if given}
    resumed = options.flag("resume")  # where =false is more than the default
    if options.flag("no-discovery") or (resumed and "no-discovery" in options.given):
        found["Discovery"] = not options.flag("no-discovery")
    if options.flag("no-fastdp") or (resumed and "no-fastdp" in options.given):
        found["Fastdp"] = not options.flag("no-fastdp")
    elif "no-fastdp" not in options.given and environ.get("WEAVE_NO_FASTDP"):
        found["Fastdp"] = False
    if resumed:
        found["Resume"] = True
    return found


def _number(options: Options, name: str, environ: Mapping[str, str], variable: str) -> int:
    """The flag, else the variable; 0: neither."""
    if name in options.given:
        return options.number(name)
    given = environ.get(variable, "")
    try:
        return unsigned(HIGHEST_PORT)(given) if given else 0
    except ValueError as error:
        raise Misuse(f"{variable}={given}: {error}", ENGINE_ERROR) from None


def _password(options: Options, environ: Mapping[str, str]) -> str:
    file = options.text("password-file")
    if "password" in options.given:
        if file:
            raise Misuse("--password and --password-file exclude each other", ENGINE_ERROR)
        if options.text("password"):
            complain(
                "WARNING: other users of this machine see a password on a command line: use"
                " --password-file, or WEAVE_PASSWORD"
            )
        return options.text("password")
    if not file:
        return environ.get("WEAVE_PASSWORD", "")
    try:
        found = sys.stdin.read() if file == "-" else Path(file).read_text()
    except OSError as error:
        raise Failure(f"--password-file: {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Failure(f"--password-file: {file}: it is no text") from None
    if not found.rstrip("\r\n"):
        raise Failure(f"--password-file: {file}: it is empty")
    if file != "-" and stat.S_IMODE(os.stat(file).st_mode) & stat.S_IROTH:
        complain(f"WARNING: all users of this machine can read the password: chmod 600 {file}")
    return found.rstrip("\r\n")
