"""Merge a create request with its image's configuration, and validate the result.  Pure.

Merging and validation follow dockerd, and so do the error messages where it has them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from netkit.errors import InvalidSpec, NotSupported
from runtime.apitypes import Health
from runtime.container import mounts, restart_policy
from runtime.container.arguments import check_arguments
from runtime.container.config import Config, CreateRequest, EndpointSettings, HostConfig
from runtime.container.model import MountPoint
from runtime.container.ports import requested_ports
from runtime.images.model import ImageConfig
from runtime.network.etc_files import parse_extra_host
from runtime.oci.mounts import SHM_SIZE
from runtime.oci.security_opt import Security
from runtime.oci.spec import MASKED, READ_ONLY

_SHORTEST_HEALTH = 1_000_000  # ns; Docker's minimum for the intervals of health checks


@dataclass(frozen=True, slots=True)
class CreateSpec:
    """A create request, merged with its image and validated."""

    config: Config
    host_config: HostConfig
    networks: dict[str, EndpointSettings]
    mounts: list[MountPoint]
    warnings: list[str]


def merge(request: CreateRequest, image: ImageConfig) -> Config:
    """Override the image's configuration with the request's."""
    c = request.config()
    # As dockerd: with an entrypoint in the request the image's command, which was written for the
    # image's own entrypoint, is not used.
    entrypoint, cmd = c.entrypoint, c.cmd
    if not entrypoint:
        cmd = cmd or image.cmd
        if entrypoint is None:
            entrypoint = image.entrypoint
    if entrypoint == [""]:  # --entrypoint "": none, and not the image's either
        entrypoint = None
    if not (entrypoint or cmd):
        raise InvalidSpec("no command specified")
    given = {e.partition("=")[0] for e in c.env or ()}
    inherited = [e for e in image.env or () if e.partition("=")[0] not in given]
    health = c.healthcheck
    if image.healthcheck:
        theirs = msgspec.convert(
            {k: v for k, v in image.healthcheck.items() if v is not None}, Health
        )
        health = _merged_health(health, theirs)
    return msgspec.structs.replace(
        c,
        entrypoint=entrypoint,
        cmd=cmd,
        env=[*(c.env or ()), *inherited],
        labels={**(image.labels or {}), **(c.labels or {})},
        exposed_ports={**(image.exposed_ports or {}), **(c.exposed_ports or {})} or None,
        volumes={**(image.volumes or {}), **(c.volumes or {})} or None,
        working_dir=c.working_dir or image.working_dir,
        user=c.user or image.user,
        stop_signal=c.stop_signal or image.stop_signal,
        shell=c.shell or image.shell,
        healthcheck=health,
    )


def overridden(mine: Config, theirs: Config) -> Config:
    """The configuration of an image made of a container: `mine`, completed by the container's.

    As dockerd merges them: names of the host and what concerns its terminal are not completed.
    """
    entrypoint, cmd = mine.entrypoint, mine.cmd
    if not entrypoint:
        cmd = cmd or theirs.cmd
        if entrypoint is None:
            entrypoint = theirs.entrypoint
    given = {e.partition("=")[0] for e in mine.env or ()}
    inherited = [e for e in theirs.env or () if e.partition("=")[0] not in given]
    health = mine.healthcheck
    if theirs.healthcheck is not None:
        health = _merged_health(health, theirs.healthcheck)
    return msgspec.structs.replace(
        mine,
        entrypoint=entrypoint,
        cmd=cmd,
        env=[*(mine.env or ()), *inherited] or None,
        labels={**(theirs.labels or {}), **(mine.labels or {})},
        exposed_ports={**(theirs.exposed_ports or {}), **(mine.exposed_ports or {})} or None,
        volumes={**(theirs.volumes or {}), **(mine.volumes or {})} or None,
        working_dir=mine.working_dir or theirs.working_dir,
        user=mine.user or theirs.user,
        stop_signal=mine.stop_signal or theirs.stop_signal,
        healthcheck=health,
    )


def _merged_health(mine: Health | None, theirs: Health) -> Health:
    if mine is None:
        return theirs
    return Health(
        test=mine.test or theirs.test,
        interval=mine.interval or theirs.interval,
        timeout=mine.timeout or theirs.timeout,
        start_period=mine.start_period or theirs.start_period,
        start_interval=mine.start_interval or theirs.start_interval,
        retries=mine.retries or theirs.retries,
    )


def validate_create(
    request: CreateRequest,
    image: ImageConfig,
    id: str,
    inherited: Sequence[MountPoint] = (),
) -> CreateSpec:
    """Merge and validate all that does not depend on the host.  InvalidSpec, NotSupported.

    `inherited`: mounts of --volumes-from.
    """
    config = merge(request, image)
    host = request.host_config or HostConfig()
    warnings: list[str] = []
    _check_names(config, host)
    _check_health(config.healthcheck)
    restart_policy.check(host.restart_policy, host.auto_remove)
    _check_unsupported(host)
    networks = _networks(request, config, host, warnings)
    _default_hostname(config, host, id)
    _complete(host)
    config.exposed_ports = requested_ports(config, host).exposed or config.exposed_ports
    points = mounts.mount_points(
        config, host, inherited, recursive=request.read_only_recursive
    )
    return CreateSpec(config, host, networks, points, warnings)


def _check_names(config: Config, host: HostConfig) -> None:
    for text in host.extra_hosts or ():
        parse_extra_host(text)
    for what, text in (("hostname", config.hostname), ("domainname", config.domainname)):
        if text and not re.fullmatch(r"[A-Za-z0-9._-]{1,253}", text):
            raise InvalidSpec(f"invalid {what} {text!r}: letters, digits, '.', '_', '-' only")
    for variable in config.env or ():
        if not variable or variable.startswith("="):
            raise InvalidSpec(f"invalid environment variable: {variable!r}")
    health = config.healthcheck.test if config.healthcheck else None
    check_arguments("environment variable", config.env or ())
    check_arguments("argument", [*(config.entrypoint or ()), *(config.cmd or ()), *(health or ())])
    if config.working_dir and not posixpath.isabs(config.working_dir):
        raise InvalidSpec(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an "
            "absolute path"
        )


def _check_health(health: Health | None) -> None:
    if health is None:
        return
    for name, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value and value < _SHORTEST_HEALTH:
            raise InvalidSpec(f"{name} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidSpec("Retries in Healthcheck cannot be negative")
    if health.test and health.test[0] not in {"NONE", "CMD", "CMD-SHELL"}:
        raise InvalidSpec(f"Unknown healthcheck type {health.test[0]!r} (expected 'CMD')")


def _check_unsupported(host: HostConfig) -> None:
    """Refuse options that are known and not implemented; none is ignored."""
    refusals = (
        (host.storage_opt, "--storage-opt: not supported on overlayfs"),
        (host.device_requests, "--gpus and device requests are not supported"),
        (host.isolation not in {"", "default"}, f"invalid isolation {host.isolation!r} on Linux"),
        (host.userns_mode not in {"", "host"}, f"user namespace mode {host.userns_mode!r} is not "
                                               "supported"),
        (host.cgroup, "--cgroup of another container is not supported"),
        (host.cpu_realtime_period or host.cpu_realtime_runtime,
         "realtime CPU scheduling is not supported"),
    )  # fmt: skip
    for given, message in refusals:
        if given:
            raise NotSupported(message)
    if host.log_config.type not in {"", "json-file", "k8s-file", "none", "local"}:
        raise InvalidSpec(
            f"logger: no log driver named '{host.log_config.type}' is registered; "
            "use json-file, local or none"
        )


def _default_hostname(config: Config, host: HostConfig, id: str) -> None:
    shared = host.network_mode == "host" or host.network_of is not None
    if not config.hostname and not shared:
        config.hostname = id[:12]


def _complete(host: HostConfig) -> None:
    """Write defaults into the document, as dockerd does: `inspect` shows what applies."""
    if host.shm_size < 0:
        raise InvalidSpec("SHM size can not be less than 0")
    host.ipc_mode = host.ipc_mode or "private"
    host.shm_size = host.shm_size or SHM_SIZE
    host.restart_policy.name = host.restart_policy.name or "no"
    # dockerd adds label=disable to such containers; without SELinux only `inspect` shows it.
    labelled = any(option.startswith("label") for option in host.security_opt or ())
    if not labelled and (host.privileged or "host" in {host.ipc_mode, host.pid_mode}):
        host.security_opt = [*(host.security_opt or ()), "label=disable"]
    if host.privileged or Security.of(host).open_system_paths:
        return
    if host.masked_paths is None:
        host.masked_paths = list(MASKED)
    if host.readonly_paths is None:
        host.readonly_paths = list(READ_ONLY)


def _networks(
    request: CreateRequest, config: Config, host: HostConfig, warnings: list[str]
) -> dict[str, EndpointSettings]:
    """Requested networks by the name or id the user gave; fills in network_mode."""
    if host.network_mode in {"", "default"}:
        host.network_mode = "bridge"
    if config.network_disabled:
        host.network_mode = "none"
    mode = host.network_mode
    asked = dict((request.networking_config and request.networking_config.endpoints_config) or {})
    if "default" in asked:
        asked["bridge"] = asked.pop("default")
    wanted = {name: settings or EndpointSettings() for name, settings in asked.items()}
    if host.network_of is not None:
        _check_container_mode(config, host)
        return {}
    if mode == "host":
        if host.port_bindings or host.publish_all_ports:
            warnings.append("Published ports are discarded when using host network mode")
        if host.uts_mode == "host" and config.hostname:
            raise InvalidSpec("conflicting options: hostname and the UTS mode")
    if mode in {"host", "none"} and set(wanted) - {mode}:
        other = sorted(set(wanted) - {mode})[0]
        raise InvalidSpec(
            f"conflicting options: cannot attach both to network {mode} and to {other}"
        )
    settings = wanted.setdefault(mode, EndpointSettings())
    if config.mac_address and not settings.mac_address:
        settings.mac_address = config.mac_address
    return wanted


def _check_container_mode(config: Config, host: HostConfig) -> None:
    conflicts = (
        (config.hostname, "hostname and the network mode"),
        (host.links, "container type network can't be used with links. This would result in "
                     "undefined behavior"),
        (host.dns, "dns and the network mode"),
        (host.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (config.mac_address, "mac-address and the network mode"),
        (host.port_bindings or host.publish_all_ports,
         "port publishing and the container type network mode"),
        (config.exposed_ports, "port exposing and the container type network mode"),
    )  # fmt: skip
    for given, what in conflicts:
        if given:
            raise InvalidSpec(f"conflicting options: {what}")
