"""The flags of `create` and `run` as the body of POST /containers/create.

Only what was asked for is sent; the rest has the daemon's default.  Reads the files named by
--env-file, --label-file and --security-opt seccomp=FILE, and the environment for `-e NAME`.
"""

from __future__ import annotations

import json
import os

from netkit.cli import mounts, netflags, ports, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from netkit.cli.flags import Options

    Json = dict[str, Any]

# flag -> key, where the value goes as it is.
PLAIN_CONFIG = {"hostname": "Hostname", "domainname": "Domainname", "user": "User",
                "workdir": "WorkingDir", "stop-signal": "StopSignal", "tty": "Tty",
                "interactive": "OpenStdin"}  # fmt: skip
PLAIN_HOST = {
    "cidfile": "ContainerIDFile", "oom-score-adj": "OomScoreAdj", "rm": "AutoRemove",
    "privileged": "Privileged", "publish-all": "PublishAllPorts", "ipc": "IpcMode",
    "pid": "PidMode", "uts": "UTSMode", "userns": "UsernsMode", "cgroupns": "CgroupnsMode",
    "read-only": "ReadonlyRootfs", "volume-driver": "VolumeDriver", "shm-size": "ShmSize",
    "runtime": "Runtime", "init": "Init", "cgroup-parent": "CgroupParent",
    "oom-kill-disable": "OomKillDisable",
}  # fmt: skip
PLAIN_RESOURCES = {
    "memory": "Memory", "memory-reservation": "MemoryReservation", "memory-swap": "MemorySwap",
    "cpus": "NanoCpus", "cpu-shares": "CpuShares", "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota", "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime", "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems", "pids-limit": "PidsLimit", "blkio-weight": "BlkioWeight",
}  # fmt: skip
LISTS_HOST = {
    "link": "Links", "dns": "Dns", "dns-search": "DnsSearch", "dns-option": "DnsOptions",
    "add-host": "ExtraHosts", "volumes-from": "VolumesFrom", "group-add": "GroupAdd",
    "device": "Devices",
    "device-cgroup-rule": "DeviceCgroupRules", "blkio-weight-device": "BlkioWeightDevice",
    "device-read-bps": "BlkioDeviceReadBps", "device-write-bps": "BlkioDeviceWriteBps",
    "device-read-iops": "BlkioDeviceReadIOps", "device-write-iops": "BlkioDeviceWriteIOps",
    "mount": "Mounts",
}  # fmt: skip
MAPS_HOST = {"sysctl": "Sysctls", "annotation": "Annotations"}
MODES = {
    "pid": ("host",), "uts": ("host",), "userns": ("host",), "cgroupns": ("host", "private"),
}  # fmt: skip
COMPLAINTS = {"pid": "--pid: invalid PID mode", "uts": "--uts: invalid UTS mode",
              "userns": "--userns: invalid USER mode",
              "cgroupns": "--cgroupns: invalid CGROUP mode"}  # fmt: skip


def body(options: Options, environ: Mapping[str, str] = os.environ) -> Json:
    """ValueError names the invalid flag, or two that exclude each other."""
    _check(options)
    image, *command = options.args
    config = _config(options, environ)
    host = _host(options)
    exposed, bindings = ports.published(options.texts("publish"))
    exposed += [port for text in options.texts("expose") for port in ports.exposed(text)]
    mode, endpoints = netflags.endpoints(options)
    binds, anonymous = _volumes(options)
    config |= _present(
        Image=image,
        Cmd=command,
        ExposedPorts={port: {} for port in exposed},
        Volumes={target: {} for target in anonymous},
    )
    host |= _present(PortBindings=bindings, NetworkMode=mode, Binds=binds)
    return config | {"HostConfig": host, "NetworkingConfig": {"EndpointsConfig": endpoints}}


def resources(options: Options) -> Json:
    """Return the part of the body that `update` and `create` share."""
    return _taken(options, PLAIN_RESOURCES)


def _present(**found: Any) -> Json:
    return {key: given for key, given in found.items() if given}


def _taken(options: Options, names: Mapping[str, str]) -> Json:
    """The values of the flags given; a switch set to false is no more than not given."""
    return {
        key: options.values[name]
        for name, key in names.items()
        if name in options.given
        and options.values[name] != ""
        and (options.values[name] is not False or name == "init")
    }


def _check(options: Options) -> None:
    for name, allowed in MODES.items():
        given = options.text(name)
        shared = name == "pid" and given.startswith("container:") and given != "container:"
        if given and given not in allowed and not shared:
            raise ValueError(COMPLAINTS[name])
    if not -1 <= options.number("memory-swappiness") <= 100:
        raise ValueError(
            f"invalid value: {options.number('memory-swappiness')}."
            " Valid memory swappiness range is 0-100"
        )
    if options.flag("rm") and _restart(options).get("Name", "no") not in ("", "no"):
        raise ValueError("conflicting options: cannot specify both --restart and --rm")


def _restart(options: Options) -> Json:
    return values.restart_policy(options.text("restart"))


def _config(options: Options, environ: Mapping[str, str]) -> Json:
    streams = options.texts("attach")
    config = _taken(options, PLAIN_CONFIG)
    stdin = "stdin" in streams or options.flag("interactive")
    config |= {
        "AttachStdin": stdin,
        "AttachStdout": "stdout" in streams or not streams,
        "AttachStderr": "stderr" in streams or not streams,
        "StdinOnce": stdin and options.flag("interactive"),
    }
    config |= _present(
        Env=environment(options, environ), Labels=_labels(options), Healthcheck=_health(options)
    )
    if "entrypoint" in options.given:
        config["Entrypoint"] = [options.text("entrypoint")]  # [""] clears the image's
    if "stop-timeout" in options.given:
        config["StopTimeout"] = options.number("stop-timeout")
    return config


def _host(options: Options) -> Json:
    host = _taken(options, PLAIN_HOST) | resources(options)
    host |= {
        key: list(options.all(name, object)) for name, key in LISTS_HOST.items()
        if options.values[name]
    }  # fmt: skip
    host |= {
        key: values.pairs(options.texts(name)) for name, key in MAPS_HOST.items()
        if options.values[name]
    }  # fmt: skip
    if options.number("memory-swappiness") != -1:
        host["MemorySwappiness"] = options.number("memory-swappiness")
    host |= _present(
        RestartPolicy=_restart(options),
        LogConfig=_logging(options),
        StorageOpt=_storage(options),
        CapAdd=_capabilities(options.texts("cap-add")),
        CapDrop=_capabilities(options.texts("cap-drop")),
        # The last one of a name counts.
        Ulimits=[each for _, each in sorted(
            {each["Name"]: each for each in options.all("ulimit", dict)}.items()
        )],
        Tmpfs={key: given for key, _, given in
               (text.partition(":") for text in options.texts("tmpfs"))},
    )  # fmt: skip
    return host | _security(options)


def _capabilities(names: list[str]) -> list[str]:
    """ "net_admin" as "CAP_NET_ADMIN"; ALL stays."""
    upper = {name.strip().upper() for name in names}
    return sorted(
        name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}" for name in upper
    )


def environment(options: Options, environ: Mapping[str, str] = os.environ) -> list[str]:
    """--env-file and -e, in this order; a bare name takes our value, if there is one."""
    found = [
        line
        for name in options.texts("env-file")
        for line in _lines(name, environ.get, "--env-file")
    ]
    for given in options.texts("env"):
        key, equals, _ = given.partition("=")
        # A name that is not set here stays bare: it removes an image's variable.
        found.append(f"{key}={environ[key]}" if not equals and key in environ else given)
    return found


def _labels(options: Options) -> dict[str, str]:
    lines = [
        line
        for name in options.texts("label-file")
        for line in _lines(name, lambda _: "", "--label-file")
    ]
    return values.pairs([*lines, *options.texts("label")])


def _lines(name: str, value_of: Callable[[str], str | None], flag: str) -> list[str]:
    """key=value lines of a file; a bare key takes its value from `value_of`, or is left out."""
    try:
        with open(name, encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise ValueError(f"{flag}: open {name}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{flag}: {name}: invalid utf8 bytes") from None
    found = []
    for number, raw in enumerate(lines, 1):
        line = raw.lstrip(" \t")
        if not line or line.startswith("#"):
            continue
        key, equals, _ = line.partition("=")
        where = f"{flag}: invalid line {number} in {name}"
        if not key:
            raise ValueError(f"{where}: no variable name on line '{line}'")
        if any(blank in key for blank in " \t"):
            raise ValueError(f"{where}: variable '{key}' contains whitespaces")
        given = value_of(key)
        if equals:
            found.append(line)
        elif given is not None:
            found.append(f"{key}={given}")
    return found


def _health(options: Options) -> Json:
    timing = {
        "Interval": "health-interval", "Timeout": "health-timeout",
        "StartPeriod": "health-start-period", "StartInterval": "health-start-interval",
        "Retries": "health-retries",
    }  # fmt: skip
    found: Json = {}
    if command := options.text("health-cmd"):
        found["Test"] = ["CMD-SHELL", command]
    for key, name in timing.items():
        if options.number(name) < 0:
            raise ValueError(f"--{name} cannot be negative")
        if options.number(name):
            found[key] = options.number(name)
    if not options.flag("no-healthcheck"):
        return found
    if found:
        raise ValueError("--no-healthcheck conflicts with --health-* options")
    return {"Test": ["NONE"]}


def _logging(options: Options) -> Json:
    driver, given = options.text("log-driver"), options.texts("log-opt")
    if driver == "none" and given:
        raise ValueError("invalid logging opts for driver none")
    return _present(Type=driver, Config=values.pairs(given))


def _storage(options: Options) -> dict[str, str]:
    given = options.texts("storage-opt")
    if any("=" not in each for each in given):
        raise ValueError("invalid storage option")
    return values.pairs(given)


def _security(options: Options) -> Json:
    """SecurityOpt with the seccomp profile's text in place of its file name."""
    kept: list[str] = []
    paths: Json = {}
    for given in options.texts("security-opt"):
        if given == "systempaths=unconfined":
            paths = {"MaskedPaths": [], "ReadonlyPaths": []}
            continue
        separator = "=" if "=" in given else ":"
        key, _, wanted = given.partition(separator)
        if not wanted and key != "no-new-privileges":
            raise ValueError(f'invalid --security-opt: "{given}"')
        if key == "seccomp" and wanted not in ("unconfined", "builtin"):
            given = f"seccomp={_profile(wanted)}"  # noqa: PLW2901
        kept.append(given)
    return _present(SecurityOpt=kept) | paths


def _profile(name: str) -> str:
    try:
        with open(name, encoding="utf-8") as file:
            return json.dumps(json.load(file), separators=(",", ":"), ensure_ascii=False)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(
            f"opening seccomp profile ({name}) failed: open {name}: {reason}"
        ) from None
    except ValueError as error:
        raise ValueError(f"compacting json for seccomp profile ({name}) failed: {error}") from None


def _volumes(options: Options) -> tuple[list[str], list[str]]:
    asked = dict.fromkeys(options.texts("volume"))  # the same one twice is one, as in docker
    parsed = [mounts.volume(text) for text in asked]
    return [bind for bind, _ in parsed if bind], [target for _, target in parsed if target]
