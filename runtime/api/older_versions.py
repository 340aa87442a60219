"""Translate requests and responses of older API versions.

Source: the API's version history (docs.docker.com/reference/api/engine/version-history) and the
routers of dockerd 28.5, which is compatible down to 1.24.  Pure.
"""

from __future__ import annotations

from typing import Any

from netkit.errors import InvalidSpec
from runtime.api.version import ApiVersion
from runtime.container.config import BindOptions, CreateRequest, EndpointSettings, HostConfig

Json = dict[str, Any]

# What image inspect showed beside an image's own configuration, always empty (until 1.49)
_LEGACY_CONFIG: Json = {
    "Hostname": "", "Domainname": "", "AttachStdin": False, "AttachStdout": False,
    "AttachStderr": False, "Tty": False, "OpenStdin": False, "StdinOnce": False, "Image": "",
}  # fmt: skip
_IMAGE_CONFIG: Json = {
    "User": "", "Env": None, "Cmd": None, "Volumes": None, "WorkingDir": "", "Entrypoint": None,
    "OnBuild": None, "Labels": None,
}  # fmt: skip
_MAC_DEPRECATED = (
    "The container-wide MacAddress field is now deprecated. It should be specified in "
    "EndpointsConfig instead."
)
_MAC_MISMATCH = (
    "the container-wide MAC address must match the endpoint-specific MAC address for the main "
    "network, or be left empty"
)


def spoken(api: ApiVersion, user_agent: str) -> ApiVersion:
    """The version to answer in: the one a client was written for, if it requests another.

    docker-compose 1 was written for 1.41.  Debian's docker-py makes it request the engine's newest
    version, and it crashes without `ContainerConfig`, with dockerd, too.
    """
    return min(api, (1, 41)) if user_agent.startswith("docker-compose/1.") else api


def create_request(request: CreateRequest, api: ApiVersion) -> list[str]:
    """Drop from the request what its version does not have; warnings.  InvalidSpec.

    An option of a later version is ignored, as an engine of that version would, unless the
    container would be less protected than requested.
    """
    request.read_only_recursive = api >= (1, 44)
    host = request.host_config
    endpoints = _endpoints(request)
    if host is not None:
        _host(host, api)
        _mounts(host, api)
    if api < (1, 44):
        if request.healthcheck is not None:
            request.healthcheck.start_interval = 0
        if len(endpoints) > 1:
            raise InvalidSpec(
                "Container cannot be created with multiple network endpoints: "
                f"{', '.join(sorted(endpoints))} (needs API v1.44 or newer)"
            )
        for settings in endpoints.values():
            settings.mac_address = ""
    if api < (1, 48):
        for settings in endpoints.values():
            settings.gw_priority = 0
    return _container_wide_mac(request, endpoints, api)


def updated(given: list[str], api: ApiVersion) -> list[str]:
    """The keys of an update that its version has."""
    return [name for name in given if name != "PidsLimit" or api >= (1, 40)]


def _endpoints(request: CreateRequest) -> dict[str, EndpointSettings]:
    asked = request.networking_config and request.networking_config.endpoints_config
    return {name: settings for name, settings in (asked or {}).items() if settings is not None}


def _host(host: HostConfig, api: ApiVersion) -> None:
    if api < (1, 25):  # --rm was done by the client
        host.auto_remove = False
    if api < (1, 40) and not host.ipc_mode:
        host.ipc_mode = "shareable"  # the default before 1.40
    if api < (1, 42):
        host.console_size = None
    if api < (1, 43):
        host.annotations = None


def _mounts(host: HostConfig, api: ApiVersion) -> None:
    for m in host.mounts or ():
        given = {"bind": m.bind_options, "volume": m.volume_options, "tmpfs": m.tmpfs_options}
        for kind, options in given.items():
            if options is None or kind == m.type:
                continue
            if api >= (1, 42):
                raise InvalidSpec(
                    f"{kind.title()}Options must not be specified on mount type {m.type!r}"
                )
            setattr(m, f"{kind}_options", None)
        if m.type == "image" and api < (1, 48):
            raise InvalidSpec('Mount type "Image" needs API v1.48 or newer')
        if m.volume_options is not None and m.volume_options.subpath and api < (1, 45):
            raise InvalidSpec("VolumeOptions.Subpath needs API v1.45 or newer")
        if m.bind_options is not None:
            _bind_options(m.bind_options, api)
        # Before 1.44 a read-only mount did not extend to mounts below it.
        if api < (1, 44) and m.type == "bind" and m.read_only:
            m.bind_options = m.bind_options or BindOptions()
            m.bind_options.read_only_non_recursive = True


def _bind_options(options: BindOptions, api: ApiVersion) -> None:
    if api < (1, 40):
        options.non_recursive = False
    if api < (1, 42):
        options.create_mountpoint = False
    if api < (1, 44) and options.read_only_force_recursive:
        raise InvalidSpec("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")


def _container_wide_mac(
    request: CreateRequest, endpoints: dict[str, EndpointSettings], api: ApiVersion
) -> list[str]:
    """Check Config.MacAddress, which moved to the endpoints in 1.44."""
    wide = request.mac_address
    if not wide or api < (1, 44):
        return []
    mode = (request.host_config.network_mode if request.host_config else "") or "default"
    names = {"default", "bridge"} if mode in {"default", "bridge"} else {mode}
    for name in names & set(endpoints):
        if endpoints[name].mac_address not in {"", wide}:
            raise InvalidSpec(_MAC_MISMATCH)
    return [_MAC_DEPRECATED]


def image_config(config: Json, api: ApiVersion) -> Json:
    """`Config` of image inspect: with all fields, also empty ones."""
    whole = {**_IMAGE_CONFIG, **config}
    return {**_LEGACY_CONFIG, **whole} if api < (1, 50) else whole


def image(shown: Json, document: Json, api: ApiVersion) -> None:
    """Add fields removed from image inspect: the container of a classic build's last step."""
    if api >= (1, 45):
        return
    if container := document.get("container"):
        shown["Container"] = container
    ran = document.get("container_config")
    shown["ContainerConfig"] = {
        **_LEGACY_CONFIG,
        **_IMAGE_CONFIG,
        **(ran if isinstance(ran, dict) else {}),
    }


def network_settings(shown: Json, id: str, hostname: str, api: ApiVersion) -> None:
    """Add short id and hostname to aliases on user-defined networks, as until 1.44."""
    if api >= (1, 45):
        return
    for name, endpoint in (shown.get("Networks") or {}).items():
        if name not in {"bridge", "host", "none", "default"}:
            aliases = [*(endpoint["Aliases"] or ()), id[:12], hostname]
            endpoint["Aliases"] = list(dict.fromkeys(a for a in aliases if a))


def info(shown: Json, api: ApiVersion) -> Json:
    """Render GET /info for a version: with removed fields, without later ones."""
    shown = dict(shown)
    if api < (1, 25):  # names only: "name=seccomp,profile=builtin" was "seccomp"
        shown["SecurityOptions"] = [
            text.partition("name=")[2].partition(",")[0] or text
            for text in shown.get("SecurityOptions") or ()
        ]
    if api < (1, 39):
        for name in ("KernelVersion", "OperatingSystem"):
            shown[name] = shown.get(name) or "<unknown>"
    if api < (1, 42):
        shown.setdefault("KernelMemory", True)
    if api < (1, 44):
        shown["Runtimes"] = {
            name: {k: v for k, v in runtime.items() if k != "status"}
            for name, runtime in (shown.get("Runtimes") or {}).items()
        }
    if api < (1, 47):
        none = {
            "AllowNondistributableArtifactsCIDRs": None,
            "AllowNondistributableArtifactsHostnames": None,
        }
        shown["RegistryConfig"] = {**none, **shown.get("RegistryConfig", {})}
    for name in ("ContainerdCommit", "RuncCommit", "InitCommit"):
        commit = {"ID": (shown.get(name) or {}).get("ID", "")}
        shown[name] = {**commit, "Expected": commit["ID"]} if api < (1, 49) else commit
    if api < (1, 49):
        shown.pop("FirewallBackend", None)
    if api < (1, 50):
        shown |= {"BridgeNfIptables": False, "BridgeNfIp6tables": False}
        shown.pop("DiscoveredDevices", None)
    return shown
