"""Containers and exec instances as JSON of the API.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from netkit.spec import EndpointRecord
from netkit.timestamps import epoch_ns
from runtime.api.json import human
from runtime.api.json.compact import compact
from runtime.api.json.image_names import familiar
from runtime.api.json.networks import container_networks, port_list, ports
from runtime.api.version import NEWEST, ApiVersion
from runtime.container.model import Container, ContainerSizes, MountPoint, State
from runtime.container.mounts import MARKS
from runtime.container.options import Exec

Json = dict[str, Any]

STORAGE = "overlay2"  # Docker's name for layers on overlayfs
_PATHS = ("ResolvConfPath", "HostnamePath", "HostsPath", "LogPath")


def summary(
    c: Container,
    live: Sequence[EndpointRecord],
    networks: Mapping[str, str],
    now: float,
    *,
    tags: Mapping[str, str],
    links: Sequence[str] = (),
    sizes: ContainerSizes | None = None,
    api: ApiVersion = NEWEST,
) -> Json:
    """One entry of GET /containers/json.

    `networks` are network ids by name; `tags` image ids by familiar name: an image that no longer
    has the name the container was created with is shown by its id.  `links` are names by links,
    "web/db".
    """
    host: Json = {"NetworkMode": c.host_config.network_mode}
    if api >= (1, 46) and c.host_config.annotations:
        host["Annotations"] = c.host_config.annotations
    shown: Json = {
        "Id": c.id,
        "Names": [f"/{name}" for name in (c.name, *links)],
        "Image": _image_name(c, tags),
        "ImageID": c.image,
        "Command": command(c),
        "Created": epoch_ns(c.created) // 1_000_000_000,
        "Ports": port_list(ports(c, live)),
        "Labels": c.config.labels or {},
        "State": c.state.status,
        "Status": human.status(c.state, now),
        "HostConfig": host,
        "NetworkSettings": {"Networks": _listed(container_networks(c, live, networks, api=api))},
        "Mounts": [mount(m) for m in c.mounts],
    }
    if sizes is not None:
        shown["SizeRw"], shown["SizeRootFs"] = sizes
    return shown


def _listed(networks: Json) -> Json:
    """Drop requested aliases and links from an endpoint in a list, as dockerd does."""
    nothing = dict.fromkeys(("Aliases", "Links", "DriverOpts", "DNSNames"))
    return {name: {**settings, **nothing} for name, settings in networks.items()}


def _image_name(c: Container, tags: Mapping[str, str]) -> str:
    """What the user called the image, as long as that is the image; then its id."""
    given = familiar(c.config.image)
    known = tags.get(given) or tags.get(f"{given}:latest")
    by_id = c.image.removeprefix("sha256:").startswith(given.removeprefix("sha256:"))
    return c.config.image if known == c.image or by_id else c.image


def command(c: Container) -> str:
    """The COMMAND column: arguments with blanks in quotes."""
    args = [f"'{a}'" if " " in a else a for a in c.args]
    return " ".join([c.path, *args])


def inspect(
    c: Container,
    network_settings: Json,
    execs: Sequence[str],
    *,
    folders: Mapping[str, str] | None = None,
    sizes: ContainerSizes | None = None,
) -> Json:
    """GET /containers/X/json.  Paths come from `Container.extra` under Docker's names.

    `folders` are those of the overlay mount; None if its image is damaged.
    """
    shown: Json = {
        "Id": c.id,
        "Created": c.created,
        "Path": c.path,
        "Args": c.args,
        "State": state(c.state),
        "Image": c.image,
        **{name: c.extra.get(name, "") for name in _PATHS},
        "Name": f"/{c.name}",
        "RestartCount": c.restart_count,
        "Driver": STORAGE,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": c.extra.get("AppArmorProfile", ""),
        "ExecIDs": list(execs) or None,
        "HostConfig": _host_config(c),
        "GraphDriver": {"Name": STORAGE, "Data": folders},
        "Mounts": [mount(m) for m in c.mounts],
        "Config": _config(c),
        "NetworkSettings": network_settings,
    }  # fmt: skip
    if sizes is not None:
        shown["SizeRw"], shown["SizeRootFs"] = sizes
    return shown


def state(s: State) -> Json:
    shown: Json = {
        "Status": s.status,
        "Running": s.status in {"running", "paused", "restarting"},
        "Paused": s.status == "paused",
        "Restarting": s.status == "restarting",
        "OOMKilled": s.oom_killed,
        "Dead": s.status == "dead",
        "Pid": s.pid,
        "ExitCode": s.exit_code,
        "Error": s.error,
        "StartedAt": s.started_at,
        "FinishedAt": s.finished_at,
    }
    if s.health is not None:
        shown["Health"] = msgspec.to_builtins(s.health)
    return shown


def mount(m: MountPoint) -> Json:
    mode = ",".join(w for w in m.mode.split(",") if w not in MARKS)
    shown = {
        "Type": m.type,
        "Name": m.name,
        "Source": m.source,
        "Destination": m.destination,
        "Driver": m.driver,
        "Mode": mode,
        "RW": m.rw,
        "Propagation": m.propagation,
    }
    return compact(shown, "Name", "Driver")


def _host_config(c: Container) -> Json:
    shown: Json = msgspec.to_builtins(c.host_config)
    if shown["Init"] is None:  # as the daemon does by itself
        del shown["Init"]
    shown["LogConfig"]["Type"] = shown["LogConfig"]["Type"] or "json-file"
    shown["LogConfig"]["Config"] = shown["LogConfig"]["Config"] or {}
    shown["ConsoleSize"] = shown["ConsoleSize"] or [0, 0]
    return compact(
        shown, "KernelMemory", "KernelMemoryTCP", "Annotations", "StorageOpt", "Tmpfs", "Sysctls",
        "Mounts", "Runtime",
    )  # fmt: skip


def _config(c: Container) -> Json:
    shown: Json = msgspec.to_builtins(c.config)
    shown["Labels"] = shown["Labels"] or {}
    shown["Env"] = shown["Env"] or []
    shown = {k: v for k, v in shown.items() if k != "NetworkDisabled" or v}
    if shown["StopTimeout"] is None:
        del shown["StopTimeout"]
    return compact(shown, "ExposedPorts", "Healthcheck", "MacAddress", "StopSignal", "Shell")


def exec_instance(e: Exec) -> Json:
    """GET /exec/X/json.  ExitCode is null while it runs."""
    words = e.config.cmd or [""]
    return {
        "ID": e.id,
        "Running": e.running,
        "ExitCode": e.exit_code,
        "ProcessConfig": {
            "tty": e.config.tty,
            "entrypoint": words[0],
            "arguments": words[1:],
            "privileged": e.config.privileged,
            "user": e.config.user,
        },
        "OpenStdin": e.config.attach_stdin,
        "OpenStderr": e.config.attach_stderr,
        "OpenStdout": e.config.attach_stdout,
        "CanRemove": e.exit_code is not None,
        "ContainerID": e.container,
        "DetachKeys": e.config.detach_keys,
        "Pid": e.pid,
    }
