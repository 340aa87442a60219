"""What a runtime calls a plugin with: CNI_ variables, section 2 "Parameters".  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from netkit.frontends.cni.errors import ENVIRONMENT, CniError

COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
NEEDED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
}
MAX_ID = 253  # characters of CNI_CONTAINERID and of a container's name
MAX_PATH = 4096  # PATH_MAX
KUBERNETES = ("K8S_POD_NAMESPACE", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID")
ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the plugin; `netns` is "" where a DEL has none."""

    command: str
    container: str = ""
    netns: str = ""  # path of the container's network namespace
    ifname: str = ""
    name: str = ""  # the container's, where the runtime gives one
    ips: tuple[str, ...] = ()  # requested by CNI_ARGS
    mac: str = ""  # likewise
    any_netns: bool = False  # CNI_NETNS_OVERRIDE: also that of the plugin

    @property
    def called(self) -> str:
        return self.name or self.container[:12]


def parse(environment: Mapping[str, str]) -> Call:
    """CniError 4 naming the variable that is missing or invalid."""
    command = environment.get("CNI_COMMAND", "")
    if command not in COMMANDS:
        raise CniError(
            ENVIRONMENT, f"unknown CNI_COMMAND {command!r}: there are {', '.join(COMMANDS)}"
        )
    needed = NEEDED.get(command, ())
    if missing := [name for name in needed if not environment.get(name)]:
        raise CniError(ENVIRONMENT, f"required env variables missing: {', '.join(missing)}")
    if not needed:
        return Call(command=command)
    args = _args(environment.get("CNI_ARGS", ""))
    return Call(
        command=command,
        container=_container(environment["CNI_CONTAINERID"]),
        netns=_path(environment.get("CNI_NETNS", "")),
        ifname=_ifname(environment["CNI_IFNAME"]),
        name=_name(args),
        ips=tuple(filter(None, args.get("IP", "").split(","))),
        mac=args.get("MAC", ""),
        any_netns=_flag(environment.get("CNI_NETNS_OVERRIDE", "")),
    )


def _container(text: str) -> str:
    if not ID.fullmatch(text) or len(text) > MAX_ID:
        raise CniError(
            ENVIRONMENT,
            f"invalid CNI_CONTAINERID {text[:MAX_ID]!r}: a letter or digit, then letters, digits, "
            f"'_', '.' and '-', {MAX_ID} characters at most",
        )
    return text


def _ifname(text: str) -> str:
    # Linux, dev_valid_name: net/core/dev.c
    bad = len(text.encode(errors="replace")) > 15 or text in {".", ".."}
    if bad or any(c.isspace() or c in "/:" or not c.isprintable() for c in text):
        raise CniError(
            ENVIRONMENT,
            f"invalid CNI_IFNAME {text[:64]!r}: up to 15 characters without spaces, '/' or ':'",
        )
    return text


def _path(text: str) -> str:
    if text and (not text.startswith("/") or len(text) > MAX_PATH or "\0" in text):
        raise CniError(ENVIRONMENT, f"invalid CNI_NETNS {text[:64]!r}: it has to be a path from /")
    return text


def _args(text: str) -> dict[str, str]:
    """CNI_ARGS: `IP=10.1.0.9;K8S_POD_NAME=web`; what is unknown only with IgnoreUnknown=1."""
    args: dict[str, str] = {}
    for item in filter(None, text.split(";")):
        name, equals, value = item.partition("=")
        if not equals:
            raise CniError(ENVIRONMENT, f"invalid CNI_ARGS {item[:64]!r}: write NAME=VALUE")
        args[name] = value
    known = {"IP", "MAC", "K8S_POD_NAME", "IgnoreUnknown", *KUBERNETES}
    unknown = sorted(args.keys() - known)
    if unknown and not _flag(args.get("IgnoreUnknown", "")):
        raise CniError(
            ENVIRONMENT,
            f"unknown CNI_ARGS {unknown[0][:64]}={args[unknown[0]][:64]}: leave it out, or add "
            "IgnoreUnknown=1",
        )
    return args


def _name(args: Mapping[str, str]) -> str:
    """In Kubernetes names are unique in a namespace only: POD.NAMESPACE, as its DNS has them."""
    name = ".".join(filter(None, (args.get("K8S_POD_NAME"), args.get("K8S_POD_NAMESPACE"))))
    return name if ID.fullmatch(name) and len(name) <= MAX_ID else ""


def _flag(text: str) -> bool:
    return text.lower() in {"1", "t", "true"}
