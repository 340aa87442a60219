"""What the shell offers for values: words, or kinds of names, `@containers`, that are asked for.

`tests/unit/netkit/cli/test_completing.py` compares these lists with what the daemon takes.
"""

from __future__ import annotations

import signal

from netkit.cli.values import STREAMS, SYSCTLS, ULIMITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from netkit.cli.flags import Flag

CAPABILITIES = (
    "ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN "
    "DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE "
    "MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP "
    "SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT "
    "SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM"
)
SIGNALS = " ".join(sorted(s.name for s in signal.Signals if not s.name.startswith("SIGRT")))
# Values of flags by name; a flag that is not here takes anything, and files are offered.
VALUES = {
    "attach": " ".join(STREAMS),
    "cap-add": CAPABILITIES,
    "cap-drop": CAPABILITIES,
    "cgroupns": "host private",
    "driver": "@drivers",
    "format": "json",
    "ipam-driver": "default",
    "ipc": "host none private shareable @sharing",
    "link": "@containers",
    "log-driver": "json-file local none",
    "log-opt": "compress= env= labels= max-file= max-size= mode= tag=",
    "mount": "type=bind type=image type=tmpfs type=volume",
    "net": "@networks @sharing",
    "network": "@networks @sharing",
    "pid": "host @sharing",
    "pull": "always missing never",
    "restart": "always no on-failure on-failure: unless-stopped",
    "security-opt": "apparmor= label=disable no-new-privileges seccomp=",
    "signal": SIGNALS,
    "src": "@containers",
    "stop-signal": SIGNALS,
    "sysctl": " ".join(f"{name}=" for name in sorted(SYSCTLS)),
    "to": "@containers",
    "type": "container image network volume",
    "ulimit": " ".join(f"{name}=" for name in sorted(ULIMITS)),
    "userns": "host",
    "uts": "host",
    "volume-driver": "local",
    "volumes-from": "@containers",
}
_PS = (
    "ancestor= before= exited= expose= health=healthy health=none health=starting health=unhealthy "
    "id= is-task= isolation= label= name= network= publish= since= status=created status=dead "
    "status=exited status=paused status=removing status=restarting status=running volume="
)
_IMAGES = "before= dangling=false dangling=true label= reference= since= until="
_NETWORKS = (
    "dangling=false dangling=true driver= id= label= name= scope=global scope=local scope=swarm "
    "type=builtin type=custom"
)
_EVENTS = (
    "container= daemon= event= image= label= network= plugin= scope= type=container type=daemon "
    "type=image type=network type=volume volume="
)
_VOLUMES = "dangling=false dangling=true driver=local label= name="
_PRUNE = "label!= label= until="
FILTERS = {
    "ps": _PS, "ls": _PS, "list": _PS, "images": _IMAGES, "image ls": _IMAGES,
    "image list": _IMAGES, "network ls": _NETWORKS, "network list": _NETWORKS,
    "net ls": _NETWORKS, "net list": _NETWORKS, "events": _EVENTS, "prune": _PRUNE,
    "search": "is-automated= is-official= stars=",
    "volume ls": _VOLUMES, "volume list": _VOLUMES, "volume prune": "all= label!= label=",
    "image prune": f"dangling=false dangling=true {_PRUNE}",
}  # fmt: skip
# Which containers a command can do something with, where not any.
CHOICE = {
    "attach": "running", "exec": "running", "kill": "running", "pause": "running",
    "start": "stopped", "stats": "running", "stop": "running", "top": "running",
    "unpause": "paused",
}  # fmt: skip


def values(path: str, flags: tuple[Flag, ...]) -> Iterator[tuple[str, str]]:
    """(key of the table, words) for the flags of one command: by the flag where it means the same
    everywhere, else by path and flag."""
    for flag in flags:
        if flag.kind == "bool":
            continue
        if flag.name == "filter":
            found = filters(path)
        else:
            found = VALUES.get(flag.name, "")
            if found:
                yield f"--{flag.name}", found
        if found and flag.short:
            yield f"{path}-{flag.short}", found
        if found and flag.name == "filter":
            yield f"{path}--filter", found


def filters(path: str) -> str:
    """What --filter of the command takes, by the longest end of its path that is known."""
    words = path.split()
    for first in range(1, len(words)):
        if found := FILTERS.get(" ".join(words[first:])):
            return found
    return ""
