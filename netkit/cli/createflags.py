"""The flags of `create` and `run`, as data."""

from __future__ import annotations

from netkit.cli import mounts, netflags, values
from netkit.cli.flags import Flag, alias, many, switch, text, value

NETWORK = many(
    "network", "Connect a container to a network", kind="network", parse=netflags.attachment
)
NETWORK_ALIAS = many("network-alias", "Add network-scoped alias for the container")
DNS_OPTION = many("dns-option", "Set DNS options")


def _size(name: str, help: str, short: str = "") -> Flag:
    return value(name, "bytes", values.size, help, short=short, default=0)


def _number(name: str, help: str, short: str = "", default: int = 0) -> Flag:
    return value(name, "int", values.integer, help, short=short, default=default)


def _duration(name: str, help: str) -> Flag:
    return value(name, "duration", values.duration, f"{help} (ms|s|m|h)", default=0)


RESOURCES: tuple[Flag, ...] = (
    value("blkio-weight", "uint16", values.unsigned(65535),
          "Block IO (relative weight), between 10 and 1000, or 0 to disable", default=0),
    _number("cpu-period", "Limit CPU CFS (Completely Fair Scheduler) period"),
    _number("cpu-quota", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    _number("cpu-rt-period", "Limit CPU real-time period in microseconds"),
    _number("cpu-rt-runtime", "Limit CPU real-time runtime in microseconds"),
    _number("cpu-shares", "CPU shares (relative weight)", short="c"),
    value("cpus", "decimal", values.cpus, "Number of CPUs", default=0),
    text("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    text("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    _size("memory", "Memory limit", short="m"),
    _size("memory-reservation", "Memory soft limit"),
    value("memory-swap", "bytes", values.swap,
          "Swap limit equal to memory plus swap: '-1' to enable unlimited swap", default=0),
    _number("pids-limit", "Tune container pids limit (set -1 for unlimited)"),
)  # fmt: skip

DEVICES = (
    many("blkio-weight-device", "Block IO weight (relative device weight)",
         parse=values.weight_device),
    many("device", "Add a host device to the container", parse=mounts.device),
    many("device-cgroup-rule", "Add a rule to the cgroup allowed devices list",
         parse=values.cgroup_rule),
    many("device-read-bps", "Limit read rate (bytes per second) from a device",
         parse=values.throttle_bytes),
    many("device-read-iops", "Limit read rate (IO per second) from a device",
         parse=values.throttle_operations),
    many("device-write-bps", "Limit write rate (bytes per second) to a device",
         parse=values.throttle_bytes),
    many("device-write-iops", "Limit write rate (IO per second) to a device",
         parse=values.throttle_operations),
)  # fmt: skip

NETWORKS = (
    many("add-host", "Add a custom host-to-IP mapping (host:ip)", parse=values.extra_host),
    many("dns", "Set custom DNS servers", parse=values.address),
    DNS_OPTION,
    alias(DNS_OPTION, "dns-opt"),
    many("dns-search", "Set custom DNS search domains", parse=values.dns_search),
    text("domainname", "Container NIS domain name"),
    many("expose", "Expose a port or a range of ports"),
    text("hostname", "Container host name", short="h"),
    value("ip", "ip", values.address, "IPv4 address (e.g., 172.30.100.104)"),
    value("ip6", "ip", values.address, "IPv6 address (e.g., 2001:db8::33)"),
    many("link", "Add link to another container", parse=values.link),
    many("link-local-ip", "Container IPv4/IPv6 link-local addresses", parse=values.address),
    value("mac-address", "string", values.mac,
          "Container MAC address (e.g., 92:d0:c6:0a:29:33)", default=""),
    NETWORK,
    alias(NETWORK, "net"),
    NETWORK_ALIAS,
    alias(NETWORK_ALIAS, "net-alias"),
    many("publish", "Publish a container's port(s) to the host", short="p"),
    switch("publish-all", "Publish all exposed ports to random ports", short="P"),
)  # fmt: skip

HEALTH = (
    text("health-cmd", "Command to run to check health"),
    _duration("health-interval", "Time between running the check"),
    _number("health-retries", "Consecutive failures needed to report unhealthy"),
    _duration("health-start-interval", "Time between running the check during the start period"),
    _duration("health-start-period", "Start period for the container to initialize before"
              " starting health-retries countdown"),
    _duration("health-timeout", "Maximum time to allow one check to run"),
    switch("no-healthcheck", "Disable any container-specified HEALTHCHECK"),
)  # fmt: skip

SECURITY = (
    many("cap-add", "Add Linux capabilities"),
    many("cap-drop", "Drop Linux capabilities"),
    text("cgroupns", "Cgroup namespace to use (host|private)"),
    many("group-add", "Add additional groups to join"),
    text("ipc", "IPC mode to use"),
    text("pid", "PID namespace to use"),
    switch("privileged", "Give extended privileges to this container"),
    many("security-opt", "Security Options"),
    many("sysctl", "Sysctl options", kind="map", parse=values.sysctl),
    many("ulimit", "Ulimit options", kind="ulimit", parse=values.ulimit),
    text("userns", "User namespace to use"),
    text("uts", "UTS namespace to use"),
)

FILES = (
    many("mount", "Attach a filesystem mount to the container", kind="mount", parse=mounts.mount),
    switch("read-only", "Mount the container's root filesystem as read only"),
    _size("shm-size", "Size of /dev/shm"),
    many("storage-opt", "Storage driver options for the container"),
    many("tmpfs", "Mount a tmpfs directory"),
    many("volume", "Bind mount a volume", short="v"),
    text("volume-driver", "Optional volume driver for the container"),
    many("volumes-from", "Mount volumes from the specified container(s)"),
)

PROCESS = (
    many("annotation", "Add an annotation to the container (passed through to the OCI runtime)",
         kind="map", parse=values.mapping),
    many("attach", "Attach to STDIN, STDOUT or STDERR", short="a", parse=values.attach),
    text("cgroup-parent", "Optional parent cgroup for the container"),
    text("cidfile", "Write the container ID to the file"),
    text("entrypoint", "Overwrite the default ENTRYPOINT of the image"),
    many("env", "Set environment variables", short="e", parse=values.variable),
    many("env-file", "Read in a file of environment variables"),
    switch("init", "Run an init inside the container that forwards signals and reaps processes",
           default=None),
    switch("interactive", "Keep STDIN open even if not attached", short="i"),
    many("label", "Set meta data on a container", short="l", parse=values.label),
    many("label-file", "Read in a line delimited file of labels"),
    text("log-driver", "Logging driver for the container"),
    many("log-opt", "Log driver options"),
    _number("memory-swappiness", "Tune container memory swappiness (0 to 100)", default=-1),
    text("name", "Assign a name to the container"),
    switch("oom-kill-disable", "Disable OOM Killer"),
    _number("oom-score-adj", "Tune host's OOM preferences (-1000 to 1000)"),
    text("platform", "Set platform if server is multi-platform capable"),
    text("pull", 'Pull image before running ("always", "missing", "never")', default="missing"),
    switch("quiet", "Suppress the pull output", short="q"),
    text("restart", "Restart policy to apply when a container exits", default="no"),
    switch("rm", "Automatically remove the container and its associated anonymous volumes when"
           " it exits"),
    text("runtime", "Runtime to use for this container"),
    text("stop-signal", "Signal to stop the container"),
    value("stop-timeout", "int", values.integer, "Timeout (in seconds) to stop a container"),
    switch("tty", "Allocate a pseudo-TTY", short="t"),
    text("user", "Username or UID (format: <name|uid>[:<group|gid>])", short="u"),
    text("workdir", "Working directory inside the container", short="w"),
)  # fmt: skip

CREATE: tuple[Flag, ...] = tuple(
    sorted(
        (*RESOURCES, *DEVICES, *NETWORKS, *HEALTH, *SECURITY, *FILES, *PROCESS),
        key=lambda flag: flag.name,
    )
)
RUN: tuple[Flag, ...] = (
    *CREATE,
    switch("detach", "Run container in background and print container ID", short="d"),
    text("detach-keys", "Override the key sequence for detaching a container"),
    switch("sig-proxy", "Proxy received signals to the process", default=True),
)
