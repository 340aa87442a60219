"""version and info."""

from __future__ import annotations

import os
import sys

from netkit import __version__
from netkit.cli import human, table
from netkit.cli.commands import NONE, command, complain
from netkit.cli.flags import text
from netkit.cli.goformat import Template
from netkit.cli.gotemplate import TemplateError
from netkit.client.engine import NEWEST
from netkit.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from netkit.cli.flags import Options
    from netkit.cli.session import Session
    from netkit.client.engine import Json

FORMAT = text("format", "Format output using a custom template: 'json' or a Go TEMPLATE", short="f")
VERSION_WIDTH = 20
ENGINE_DETAILS = {"GoVersion": "Go version", "GitCommit": "Git commit", "BuildTime": "Built"}


@command("[OPTIONS]", NONE, FORMAT)
def version(session: Session, options: Options) -> int:
    template = _template(options)
    newest = ".".join(map(str, NEWEST))
    client = _client(newest)
    server, error = None, None
    try:
        server = session.engine.get("/version")
        _dated(server)
        client["ApiVersion"] = session.engine.version
    except Failure as failure:
        error = failure
    if template is not None:
        _render(template, "Version", {"Client": client, "Server": server})
    else:
        print(table.aligned(_versions(client, server), least=VERSION_WIDTH, padding=1))
    sys.stdout.flush()
    if error is not None:
        raise error
    return 0


def _client(api: str) -> Json:
    """With docker's keys; what compiled a Go program is the interpreter here, as of the daemon."""
    python = sys.version.partition(" ")[0]
    return {
        "Version": __version__, "ApiVersion": api, "DefaultAPIVersion": api, "GitCommit": "",
        "GoVersion": f"python{python}", "Os": "linux", "Arch": _machine(),
        "Context": "default", "PythonVersion": python,
    }  # fmt: skip


def _machine() -> str:
    """As Go and OCI name it."""
    name = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(name, name)


def _versions(client: Json, server: Json | None) -> str:
    api, default = client["ApiVersion"], client["DefaultAPIVersion"]
    lines = [
        "Client: netkit",
        f" Version:\t{client['Version']}",
        f" API version:\t{api}" + (f" (downgraded from {default})" if api != default else ""),
        f" Python version:\t{client['PythonVersion']}",
        f" OS/Arch:\t{client['Os']}/{client['Arch']}",
    ]
    if server is None:
        return "\n".join(lines)
    name = (server.get("Platform") or {}).get("Name", "")
    lines += ["", f"Server: {name}".rstrip()]
    for component in server.get("Components") or [
        {"Name": "Engine", "Version": server["Version"], "Details": server}
    ]:
        details = component.get("Details") or {}
        lines += [f" {component['Name']}:", f"  Version:\t{component['Version']}"]
        rows = _engine(details) if component["Name"] == "Engine" else sorted(details.items())
        lines += [f"  {key}:\t{given}" for key, given in rows]
    return "\n".join(lines)


def _engine(details: Json) -> list[tuple[str, object]]:
    """The lines that docker shows of an engine, of all that it says."""
    api, least = details.get("ApiVersion", ""), details.get("MinAPIVersion", "")
    return [
        ("API version", f"{api} (minimum version {least})" if least else api),
        *((title, details.get(key, "")) for key, title in ENGINE_DETAILS.items()),
        ("OS/Arch", f"{details.get('Os', '')}/{details.get('Arch', '')}"),
        ("Experimental", details.get("Experimental", "false")),
    ]


def _dated(server: Json) -> None:
    """When the engine was built, as docker's client shows it: Fri May 30 12:07:14 2025."""
    for component in server.get("Components") or ():
        details = component.get("Details") or {}
        if component["Name"] == "Engine" and "BuildTime" in details:
            details["BuildTime"] = human.ansi_date(details["BuildTime"])


def _template(options: Options) -> Template | None:
    source = options.text("format")
    try:
        return Template("{{json .}}" if source == "json" else source) if source else None
    except TemplateError as error:
        raise table.template_failure(error, table.TEMPLATE_ERROR) from None


def _render(template: Template, kind: str, value: object) -> None:
    try:
        print(template.inspect(kind, value))
    except TemplateError as error:
        raise table.template_failure(error) from None


@command("[OPTIONS]", NONE, FORMAT)
def info(session: Session, options: Options) -> None:
    template = _template(options)
    found = session.engine.get("/info")
    if template is not None:
        client = _client("") | {"Debug": session.debug, "Plugins": [], "Warnings": None}
        _render(template, "Info", found | {"ClientInfo": client})
        return
    print(f"Client: netkit\n Version:    {__version__}\n Debug Mode: "
          f"{str(session.debug).lower()}\n\nServer:")  # fmt: skip
    for line in _server(found):
        print(line)
    print(flush=True)
    for warning in found.get("Warnings") or ():
        complain(warning)


# How `info` shows the daemon's answer: indentation and title, key, whether "" is left out.
COUNTS = (
    (" Containers", "Containers"), ("  Running", "ContainersRunning"),
    ("  Paused", "ContainersPaused"), ("  Stopped", "ContainersStopped"), (" Images", "Images"),
    (" Server Version", "ServerVersion"), (" Storage Driver", "Driver"),
)  # fmt: skip
DRIVERS = (
    (" Logging Driver", "LoggingDriver"), (" Cgroup Driver", "CgroupDriver"),
    (" Cgroup Version", "CgroupVersion"),
)  # fmt: skip
MACHINE = (
    (" Kernel Version", "KernelVersion"),
    (" Operating System", "OperatingSystem"),
    (" OSType", "OSType"),
    (" Architecture", "Architecture"),
    (" CPUs", "NCPU"),
)
NAMES = (
    (" Name", "Name"), (" ID", "ID"), (" Docker Root Dir", "DockerRootDir"),
    (" Debug Mode", "Debug"), (" HTTP Proxy", "HttpProxy"), (" HTTPS Proxy", "HttpsProxy"),
    (" No Proxy", "NoProxy"),
)  # fmt: skip


def _server(found: Json) -> list[str]:
    lines = _lines(found, COUNTS)
    lines += [f"  {key}: {given}" for key, given in found.get("DriverStatus") or ()]
    lines += _lines(found, DRIVERS)
    plugins = found.get("Plugins") or {}
    lines.append(" Plugins:")
    for key in ("Volume", "Network", "Authorization", "Log"):
        if plugins.get(key) or key != "Authorization":
            lines.append(f"  {key}: {' '.join(plugins.get(key) or ())}")
    lines.append(f" Swarm: {(found.get('Swarm') or {}).get('LocalNodeState', 'inactive')}")
    if runtimes := found.get("Runtimes"):
        lines.append(f" Runtimes: {' '.join(sorted(runtimes))}")
        lines.append(f" Default Runtime: {found.get('DefaultRuntime', '')}")
    lines.append(f" Init Binary: {found.get('InitBinary', '')}")
    for title, key in (("containerd", "ContainerdCommit"), ("runc", "RuncCommit"),
                       ("init", "InitCommit")):  # fmt: skip
        lines.append(f" {title} version: {(found.get(key) or {}).get('ID', '')}")
    lines += _security(found.get("SecurityOptions") or ())
    lines += _lines(found, MACHINE)
    lines.append(f" Total Memory: {human.binary_size(found.get('MemTotal') or 0)}")
    lines += _lines(found, NAMES)
    return lines + _rest(found)


def _lines(found: Json, rows: Sequence[tuple[str, str]]) -> list[str]:
    return [
        f"{title}: {str(given).lower() if isinstance(given, bool) else given}"
        for title, key in rows
        if (given := found.get(key, "")) != ""
    ]


def _security(options: Sequence[str]) -> list[str]:
    """ "name=seccomp,profile=builtin" on two lines."""
    lines = [" Security Options:"] if options else []
    for option in options:
        pairs = [pair.partition("=") for pair in option.split(",")]
        lines += [f"  {given}" for key, _, given in pairs if key == "name"]
        lines += [f"   Profile: {given}" for key, _, given in pairs if key == "profile"]
    return lines


def _rest(found: Json) -> list[str]:
    lines = []
    if labels := found.get("Labels"):
        lines += [" Labels:", *(f"  {label}" for label in labels)]
    lines.append(f" Experimental: {str(bool(found.get('ExperimentalBuild'))).lower()}")
    registry = found.get("RegistryConfig") or {}
    insecure = [
        name for name, each in (registry.get("IndexConfigs") or {}).items() if not each["Secure"]
    ] + (registry.get("InsecureRegistryCIDRs") or [])
    if insecure:
        lines += [" Insecure Registries:", *(f"  {each}" for each in insecure)]
    lines.append(f" Live Restore Enabled: {str(bool(found.get('LiveRestoreEnabled'))).lower()}")
    if pools := found.get("DefaultAddressPools"):
        lines.append(" Default Address Pools:")
        lines += [f"   Base: {pool['Base']}, Size: {pool['Size']}" for pool in pools]
    if firewall := found.get("FirewallBackend"):
        lines.append(f" Firewall Backend: {firewall['Driver']}")
        lines += [f"  {key}: {given}" for key, given in firewall.get("Info") or ()]
    return lines
