"""Flags and keys of dockerd 28 that netkitd does not implement.  Data and one decision.

Each is accepted silently if the value is how netkitd behaves anyway, refused if ignoring it would
be less safe or otherwise unexpected, and accepted with a warning if it has no meaning here.
Lists: moby v28.5.2, cmd/dockerd/{config,config_unix,options}.go and daemon/config/*.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from netkit.errors import InvalidSpec


def _empty(value: Any) -> bool:
    return value in ("", 0, (), None) or value == {} or value is False


def _one_of(*values: Any) -> Callable[[Any], bool]:
    return lambda value: value in values


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerKey:
    flag: str  # the long flag without dashes; "" if only the file has it
    file: str  # the key in daemon.json; "" if only the command line has it
    kind: str = "text"  # of runtime.daemon.config_values
    short: str = ""  # letter of the short flag
    silent: Callable[[Any], bool] = _empty  # values that netkitd has anyway
    true_here: str = ""  # those values, for the documentation
    refused: bool = False  # else accepted with a warning
    why: str

    @property
    def name(self) -> str:
        return self.file or self.flag


def _key(names: str, kind: str, why: str, **more: Any) -> DockerKey:
    """`names` is "flag" where the file has the same name, else "flag/file"."""
    flag, sep, file = names.partition("/")
    return DockerKey(flag=flag, file=file if sep else flag, kind=kind, why=why, **more)


_IPV6 = "IPv6 is not supported yet"
_INIT = "an init is looked for by its names: tini, catatonit, docker-init"
_SWARM = "there is no swarm"
_CONTAINERD = "containers are run by runc under conmon, without containerd"
_PULLS = "registries are asked without a proxy"
_OVERLAY = "Docker's overlay without swarm was removed: see cluster and docs/cluster.md"
_RT = "realtime scheduling of control groups is not supported"

KEYS = (
    _key("add-runtime/runtimes", "json", "one runtime is used, see default-runtime: "
         "containers that request another are refused"),
    _key("allow-direct-routing", "flag", "published ports only are reachable from outside: use "
         "`netkit fw accept` for one container", refused=True, true_here="false"),
    _key("allow-nondistributable-artifacts", "list", "removed from Docker 28 as well"),
    _key("api-cors-header", "text", "removed from Docker 28 as well: use a reverse proxy",
         refused=True),
    _key("authorization-plugin/authorization-plugins", "list", "there are no authorization "
         "plugins: every process that can open the socket may do everything", refused=True),
    _key("bip6", "text", _IPV6, refused=True),
    _key("/builder", "json", "it is of BuildKit, which is not here"),
    _key("cdi-spec-dir/cdi-spec-dirs", "list", "devices by CDI are not supported: use --device"),
    _key("containerd", "text", _CONTAINERD),
    _key("containerd-namespace", "text", _CONTAINERD),
    _key("containerd-plugins-namespace", "text", _CONTAINERD),
    _key("/containerd-plugin-namespace", "text", _CONTAINERD),
    _key("cpu-rt-period", "number", _RT, refused=True, true_here="0"),
    _key("cpu-rt-runtime", "number", _RT, refused=True, true_here="0"),
    _key("cri-containerd", "flag", _CONTAINERD, true_here="false"),
    _key("default-gateway-v6", "text", _IPV6, refused=True),
    _key("/default-init", "text", _INIT),
    _key("/deprecated-key-path", "text", "removed from Docker 28 as well"),
    _key("exec-opt/exec-opts", "list", "control groups are made by cgroupfs below /netkit, not by "
         "systemd", silent=lambda v: set(v) <= {"native.cgroupdriver=cgroupfs"},
         true_here="native.cgroupdriver=cgroupfs"),
    _key("experimental", "flag", "there are no experimental features", true_here="false"),
    _key("feature/features", "json", "features of Docker's are not known here",
         silent=lambda v: isinstance(v, dict) and not any(v.values()), true_here="all false"),
    _key("fixed-cidr-v6", "text", _IPV6, refused=True),
    _key("http-proxy", "text", _PULLS),
    _key("https-proxy", "text", _PULLS),
    _key("init-path", "text", _INIT),
    _key("ip-forward-no-drop", "flag", "the policy of FORWARD is never changed",
         silent=_one_of(True), true_here="true"),
    _key("ip6tables", "flag", "IPv6 is not supported yet: there are no IPv6 rules to write",
         true_here="false"),
    _key("ipv6", "flag", _IPV6, refused=True, true_here="false"),
    _key("live-restore", "flag", "containers always outlive the daemon", silent=_one_of(True),
         true_here="true"),
    _key("log-format", "text", "the log is text, one line an event", refused=True,
         silent=_one_of("", "text"), true_here="text"),
    _key("network-control-plane-mtu", "number", _SWARM),
    _key("network-diagnostic-port", "number", "use `netkit net trace` for diagnosis",
         refused=True, true_here="0"),
    _key("no-proxy", "text", _PULLS),
    _key("node-generic-resource/node-generic-resources", "list", _SWARM),
    _key("raw-logs", "flag", "the log never has colours", silent=_one_of(True, False),
         true_here="any"),
    _key("/resolv-conf", "text", "the host's is read: use dns, dns-search, dns-opts"),
    _key("restart/", "flag", "use a restart policy on `docker run`", short="r",
         silent=_one_of(True), true_here="true", refused=True),
    _key("rootless", "flag", "netkitd must be root", refused=True, true_here="false"),
    _key("seccomp-profile", "text", "the built-in profile is the default: give another to one "
         "container by --security-opt seccomp=FILE", refused=True,
         silent=_one_of("", "builtin", "default"), true_here="builtin"),
    _key("selinux-enabled", "flag", "there is no SELinux support", refused=True,
         true_here="false"),
    _key("shutdown-timeout", "number", "containers outlive the daemon"),
    _key("storage-driver", "text", "layers are kept by overlayfs only", refused=True, short="s",
         silent=_one_of("", "overlay2", "overlay", "overlayfs"), true_here="overlay2"),
    _key("storage-opt/storage-opts", "list", "overlayfs has no such option here", refused=True,
         silent=lambda v: all(o.startswith("overlay2.override_kernel_check=") for o in v),
         true_here="overlay2.override_kernel_check"),
    _key("swarm-default-advertise-addr", "text", _SWARM),
    _key("/swarm-raft-election-tick", "number", _SWARM),
    _key("/swarm-raft-heartbeat-tick", "number", _SWARM),
    _key("userland-proxy-path", "text", "there is no proxy to start"),
    _key("userns-remap", "text", "user namespaces are not supported", refused=True),
)  # fmt: skip

# keys that dockerd 28 has removed, and what to use
REMOVED = {
    "graph": "use data-root",
    "oom-score-adjust": "use OOMScoreAdjust= of the systemd unit",
    "cluster-store": _OVERLAY,
    "cluster-store-opts": _OVERLAY,
    "disable-legacy-registry": "there is no legacy registry: leave it out",
}

_SECRET = re.compile(r"//[^/@]*@")


def settle(key: DockerKey, value: Any) -> str | None:
    """The warning for `value`; None if netkitd has it anyway.  InvalidSpec if it is refused."""
    if value is None or key.silent(value):
        return None
    if key.kind == "number" and value < 0:
        raise InvalidSpec(f"{key.name} {value}: not below 0")
    text = _shown(value)
    if key.refused:
        leave = f"; leave it out or give {key.true_here}" if key.true_here else "; leave it out"
        raise InvalidSpec(f"{key.name} {text} is refused: {key.why}{leave}")
    return f"{key.name} has no effect: {key.why}"


def _shown(value: Any) -> str:
    """Render a value without the user and password of a URL."""
    if isinstance(value, bool):
        return str(value).lower()
    text = " ".join(value) if isinstance(value, tuple) else str(value)
    return _SECRET.sub("//xxxxx@", text)[:200]
