"""What a service of a compose file becomes on the command line of `netkit run`.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from netkit.cli.createflags import RUN
from netkit.cli.flags import read
from netkit.cli.ports import parse as parse_port
from netkit.client.failure import Failure
from netkit.lab.foreign.compose_values import FILES, NAME, RIGHTS, Values
from netkit.lab.schema import Path

_CAPABILITIES = frozenset({"NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"})
# What becomes a flag of `netkit run`, VALUE and all, or NAME=VALUE of each entry.
_PLAIN = {"hostname": "hostname", "user": "user", "working_dir": "workdir",
          "domainname": "domainname",
          "stop_signal": "stop-signal", "shm_size": "shm-size", "mem_limit": "memory",
          "cpus": "cpus", "pids_limit": "pids-limit", "restart": "restart"}  # fmt: skip
_LISTS = {"dns": "dns", "dns_search": "dns-search", "dns_opt": "dns-option",
          "extra_hosts": "add-host",
          "cap_drop": "cap-drop", "tmpfs": "tmpfs", "group_add": "group-add",
          "expose": "expose", "cap_add": "cap-add", "environment": "env",
          "sysctls": "sysctl"}  # fmt: skip
_SWITCHES = {"init": "init", "read_only": "read-only"}


def port(values: Values, at: Path) -> str:
    """As -p takes it; "" where it is none."""
    given = values.origin.use(*at)
    text = _long_port(values, at) if isinstance(given, dict) else values.text(given, at)
    return values.checked(text, parse_port, at)


def _long_port(values: Values, at: Path) -> str:
    given = values.origin.use(*at)
    for key in given:
        if key not in {"target", "published", "host_ip", "protocol"}:
            values.omit((*at, key), "it says nothing to an engine")
    host = f"{values.use(*at, 'host_ip')}:" if "host_ip" in given else ""
    published = f"{values.use(*at, 'published')}:" if "published" in given or host else ""
    protocol = f"/{values.use(*at, 'protocol')}" if "protocol" in given else ""
    return f"{host}{published}{values.use(*at, 'target')}{protocol}"


def volume(values: Values, at: Path) -> list[str]:
    """Flags for a named or anonymous volume; what is of the machine's files is left out."""
    given = values.origin.use(*at)
    if isinstance(given, dict):
        kind = values.use(*at, "type")
        if kind not in {"volume", "tmpfs"}:
            values.omit(at, FILES)
            return []
        parts = [values.use(*at, "source"), values.use(*at, "target")]
        for key in given:
            if key not in {"type", "source", "target", "read_only"}:
                values.omit((*at, key), "there is nothing like it here")
        if values.true(*at, "read_only"):
            parts.append("ro")
        if kind == "tmpfs":
            return [f"--tmpfs={parts[1]}"]
    else:
        parts = values.text(given, at).split(":")
    if len(parts) == 1 and parts[0].startswith("/"):
        return [f"--volume={parts[0]}"]
    inner = [p for p in parts if p]
    named = len(inner) in {2, 3} and NAME.fullmatch(inner[0]) and inner[1].startswith("/")
    if not named or inner[2:] not in ([], ["ro"], ["rw"]):
        values.omit(at, FILES)
        return []
    if values.origin.at("volumes", inner[0]):
        values.origin.mapping("volumes", inner[0])
    else:
        values.origin.use("volumes", inner[0])
    return [f"--volume={':'.join(inner)}"]


def flags(values: Values, at: Path, *, stands_in: bool) -> Iterator[str]:
    """Those that `netkit run` understands; `stands_in`: the image is another than the file's."""
    for where, flag in _flags(values, at):
        key = where[len(at)]
        if stands_in and key in {"user", "group_add"}:
            values.note(where, "the image that has the user is not here")
            continue
        try:
            read(RUN, [flag, "image"], "netkit run", interspersed=False)
        except (Failure, ValueError) as bad:
            values.note(where, str(bad).splitlines()[0])
        else:
            yield flag


def _flags(values: Values, at: Path) -> Iterator[tuple[Path, str]]:
    for key, flag in _PLAIN.items():
        if values.origin.at(*at, key) is not None:
            yield (*at, key), f"--{flag}={values.use(*at, key)}"
    for key, flag in _SWITCHES.items():
        if values.true(*at, key):
            yield (*at, key), f"--{flag}"
    for key, flag in _LISTS.items():
        for n, value in enumerate(values.listed(at, key)):
            if why := _unfit(key, value):
                values.note((*at, key, n), f"{value}: {why}")
            else:
                yield (*at, key, n), f"--{flag}={value}"


def _unfit(key: str, value: str) -> str:
    """Why an entry of a list is left out."""
    if key == "cap_add" and value.removeprefix("CAP_") not in _CAPABILITIES:
        return RIGHTS
    if key == "sysctls" and not value.startswith("net."):
        return RIGHTS
    if key == "environment" and "=" not in value:
        return "it is of the environment of who runs compose"
    return ""
