"""Every flag and every key of daemon.json that dockerd 28.5.2 has is answered, and documented."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from netkit.errors import InvalidSpec
from runtime.container.config import HostConfig, LogConfig, Ulimit
from runtime.daemon.config import DaemonConfig
from runtime.daemon.config_load import load
from runtime.daemon.container_defaults import apply
from runtime.daemon.docker_keys import KEYS, REMOVED
from runtime.daemon.flags import FLAGS
from tests.places import ROOT

# moby v28.5.2: cmd/dockerd/{options,config,config_unix}.go
DOCKER_FLAGS = """
add-runtime allow-direct-routing allow-nondistributable-artifacts api-cors-header
authorization-plugin bip bip6 bridge cdi-spec-dir cgroup-parent config-file containerd
containerd-namespace containerd-plugins-namespace cpu-rt-period cpu-rt-runtime cri-containerd
data-root debug default-address-pool default-cgroupns-mode default-gateway default-gateway-v6
default-ipc-mode default-network-opt default-runtime default-shm-size default-ulimit dns dns-opt
dns-search exec-opt exec-root experimental feature fixed-cidr fixed-cidr-v6 group help host
host-gateway-ip http-proxy https-proxy icc init init-path insecure-registry ip ip-forward
ip-forward-no-drop ip-masq ip6tables iptables ipv6 label live-restore log-driver log-format
log-level log-opt max-concurrent-downloads max-concurrent-uploads max-download-attempts
metrics-addr mtu network-control-plane-mtu network-diagnostic-port no-new-privileges no-proxy
node-generic-resource pidfile raw-logs registry-mirror restart rootless seccomp-profile
selinux-enabled shutdown-timeout storage-driver storage-opt swarm-default-advertise-addr tls
tlscacert tlscert tlskey tlsverify userland-proxy userland-proxy-path userns-remap validate version
""".split()

# and the JSON names in daemon/config/{config,config_linux}.go and registry/config.go
DOCKER_KEYS = """
allow-direct-routing allow-nondistributable-artifacts api-cors-header authorization-plugins bip
bip6 bridge builder cdi-spec-dirs cgroup-parent containerd containerd-namespace
containerd-plugin-namespace containerd-plugins-namespace cpu-rt-period cpu-rt-runtime
cri-containerd data-root debug default-address-pools default-cgroupns-mode default-gateway
default-gateway-v6 default-init default-ipc-mode default-network-opts default-runtime
default-shm-size default-ulimits deprecated-key-path dns dns-opts dns-search exec-opts exec-root
experimental features fixed-cidr fixed-cidr-v6 group host-gateway-ip host-gateway-ips hosts
http-proxy https-proxy icc init init-path insecure-registries ip ip-forward ip-forward-no-drop
ip-masq ip6tables iptables ipv6 labels live-restore log-driver log-format log-level log-opts
max-concurrent-downloads max-concurrent-uploads max-download-attempts metrics-addr mtu
network-control-plane-mtu network-diagnostic-port no-new-privileges no-proxy
node-generic-resources pidfile raw-logs registry-mirrors resolv-conf rootless runtimes
seccomp-profile selinux-enabled shutdown-timeout storage-driver storage-opts
swarm-default-advertise-addr swarm-raft-election-tick swarm-raft-heartbeat-tick tls tlscacert
tlscert tlskey tlsverify userland-proxy userland-proxy-path userns-remap
""".split()

DOCUMENT = ROOT / "docs" / "daemon.md"
BEGIN = "<!-- made by tests/unit/runtime/daemon/test_docker_keys.py -->\n"
UPDATE = bool(os.environ.get("NETKIT_UPDATE_GOLDEN"))
OURS = ("config-file", "help", "validate", "version")


def with_file(folder: Path, document: dict[str, Any], *flags: str) -> DaemonConfig:
    file = folder / "daemon.json"
    file.write_text(json.dumps(document))
    return load(["--config", str(file), *flags])


def test_no_flag_of_dockerds_is_unknown() -> None:
    known = {w.lstrip("-") for flag in FLAGS for w in flag.words} | {key.flag for key in KEYS}
    assert sorted(set(DOCKER_FLAGS) - known - set(OURS)) == []


def test_no_key_of_dockerds_is_unknown() -> None:
    known = {word for flag in FLAGS for word in flag.spellings} | {key.file for key in KEYS}
    assert sorted(set(DOCKER_KEYS) - known) == []


def test_what_is_listed_as_dockers_is_dockers() -> None:
    assert sorted({k.flag for k in KEYS if k.flag} - set(DOCKER_FLAGS)) == []
    assert sorted({k.file for k in KEYS if k.file} - set(DOCKER_KEYS)) == []
    assert not set(REMOVED) & set(DOCKER_KEYS)


EXAMPLES: dict[str, Any] = {
    "flag": True, "text": "x", "number": 7, "list": ["x"], "json": {"x": True},
}  # fmt: skip


@pytest.mark.parametrize("key", [key for key in KEYS if key.file], ids=lambda key: key.file)
def test_each_key_without_effect_is_refused_or_warned_of(tmp_path: Path, key: Any) -> None:
    given = EXAMPLES[key.kind]
    if key.silent(tuple(given) if isinstance(given, list) else given):
        given = False if key.kind == "flag" else given
    document = {key.file: given}
    if key.refused:
        with pytest.raises(InvalidSpec, match=f"daemon.json: {key.file} .* is refused: "):
            with_file(tmp_path, document)
    elif key.file == "raw-logs":
        assert with_file(tmp_path, document).warnings == ()
    else:
        assert with_file(tmp_path, document).warnings == (f"{key.file} has no effect: {key.why}",)


@pytest.mark.parametrize(
    "document",
    [
        {"live-restore": True, "log-driver": "json-file", "storage-driver": "overlay2"},
        {"ipv6": False, "experimental": False, "features": {"buildkit": False}, "raw-logs": True},
        {"exec-opts": ["native.cgroupdriver=cgroupfs"], "userns-remap": "", "seccomp-profile": ""},
        {"selinux-enabled": False, "metrics-addr": "", "authorization-plugins": []},
        {"mtu": None, "proxies": {}, "storage-opts": ["overlay2.override_kernel_check=true"]},
    ],
)
def test_what_is_so_here_anyway_is_taken_in_silence(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    assert with_file(tmp_path, document).warnings == ()


def test_the_file_that_the_course_writes(tmp_path: Path) -> None:
    c = with_file(tmp_path, {"registry-mirrors": ["https://registry.docker-cn.com"]})
    assert c.registry_mirrors == ("https://registry.docker-cn.com/",)
    assert c.warnings == ()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"registry-mirrors": ["mirror.example:5000"]}, "must begin with https:// or http://"),
        ({"registry-mirrors": ["https://user:word@m.example"]}, "xxxxx@m.example"),
        ({"registry-mirrors": ["https://m.example/?a=b"]}, "no query"),
        ({"registry-mirrors": ["https://"]}, "no host"),
        ({"insecure-registries": ["ftp://a"]}, "should not contain '://'"),
        ({"insecure-registries": ["10.0.0.0/99"]}, "HOST:PORT or a network"),
        ({"insecure-registries": ["a:70000"]}, "above 65535"),
        ({"insecure-registries": ["-a"]}, "not a host"),
        ({"log-opts": {"max-size": "10x"}}, "invalid value for max-size"),
        ({"log-opts": {"max-file": 3}}, "pairs of texts"),
        ({"log-opts": {"colour": "x"}}, "unknown log opt 'colour'"),
        ({"log-driver": "syslog"}, "no log driver named 'syslog'"),
        ({"log-level": "loud"}, "invalid logging level: loud"),
        ({"default-ulimits": {"nofile": {"Soft": 2, "Hard": 1}}}, "less than or equal"),
        ({"default-ulimits": {"files": {"Soft": 1, "Hard": 1}}}, "invalid ulimit type"),
        ({"default-shm-size": "big"}, "a size such as 64m"),
        ({"default-ipc-mode": "host"}, "private or shareable"),
        ({"host-gateway-ip": "fd00::1"}, "not an IPv4"),
        ({"max-concurrent-downloads": -1}, "not below 0"),
        ({"mtu": 1400.5}, "is a number"),
        ({"mtu": True}, "is a number"),
        ({"graph": "/x"}, "use data-root"),
        ({"default-network-opts": {"bridge": "x"}}, "pairs of texts"),
        ({"nonsense": 1}, "unknown key 'nonsense'$"),
        ({"insecure-registris": 1}, "did you mean 'insecure-registries'"),
    ],
)
def test_values_are_checked(tmp_path: Path, document: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        with_file(tmp_path, document)


@pytest.mark.parametrize("text", [b"\xff\xfe{", b"[" * 100_000, b'{"a":', b"null"])
def test_a_file_that_is_no_object_is_reported_in_a_line(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "daemon.json"
    file.write_bytes(text)
    with pytest.raises(InvalidSpec, match=r"daemon\.json"):
        load(["--config", str(file)])


@pytest.mark.parametrize("text", [b"", b" \n", b"\xef\xbb\xbf{}"])
def test_an_empty_file_and_a_byte_order_mark_are_taken(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "daemon.json"
    file.write_bytes(text)
    assert load(["--config", str(file)]).listeners


def test_the_password_of_a_proxy_is_not_shown() -> None:
    with pytest.raises(InvalidSpec) as caught:
        load(["--authorization-plugin", "http://me:secret@h/"])
    assert "secret" not in str(caught.value)
    assert load(["--http-proxy", "http://me:secret@h/"]).warnings == (
        "http-proxy has no effect: registries are asked without a proxy",
    )


def test_keys_of_the_object_proxies_are_read(tmp_path: Path) -> None:
    c = with_file(tmp_path, {"proxies": {"https-proxy": "http://h"}})
    assert c.warnings == ("https-proxy has no effect: registries are asked without a proxy",)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--nonsense"], r"unknown flag: --nonsense \(see"),
        (["--labl=a=b"], "did you mean '--label'"),
        (["serve"], "unknown flag: serve"),
        (["--mtu"], "expected one argument"),
    ],
)
def test_a_flag_that_is_wrong_is_reported_in_a_line(flags: list[str], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        load(flags)


def test_a_key_without_effect_is_given_once_as_well(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="give it once"):
        with_file(tmp_path, {"live-restore": True}, "--live-restore")


def test_defaults_of_containers() -> None:
    c = load(
        ["--log-opt", "max-size=1m", "--default-ulimit", "nofile=10:20", "--default-ulimit",
         "core=0", "--default-shm-size", "128m", "--no-new-privileges", "--init",
         "--default-ipc-mode", "shareable", "--cgroup-parent", "/apps"]
    )  # fmt: skip
    host = HostConfig()
    apply(c, host)
    assert host.log_config == LogConfig(type="json-file", config={"max-size": "1m"})
    assert [(u.name, u.soft, u.hard) for u in host.ulimits or ()] == [
        ("nofile", 10, 20), ("core", 0, 0),
    ]  # fmt: skip
    assert (host.shm_size, host.ipc_mode, host.cgroup_parent) == (128 << 20, "shareable", "/apps")
    assert (host.init, host.security_opt) == (True, ["no-new-privileges"])


def test_a_container_that_says_wins_over_the_defaults() -> None:
    c = load(["--log-opt", "max-size=1m", "--default-ulimit", "nofile=10", "--no-new-privileges",
              "--init", "--default-shm-size", "128m"])  # fmt: skip
    host = HostConfig(
        log_config=LogConfig(type="none"),
        ulimits=[Ulimit(name="nofile", soft=1, hard=1)],
        security_opt=["no-new-privileges:false"],
        init=False,
        shm_size=1,
    )
    before = repr(host)
    apply(c, host)
    assert repr(host) == before


def test_the_page_on_the_daemon_lists_every_key() -> None:
    page = DOCUMENT.read_text()
    head = page.partition(BEGIN)[0]
    made = head + BEGIN + "\n".join([*_effective(), "", *_without()]) + "\n"
    if UPDATE:
        DOCUMENT.write_text(made)
    assert page == made or UPDATE, "docs/daemon.md is stale: NETKIT_UPDATE_GOLDEN=1"


def _effective() -> list[str]:
    rows = [
        f"| {', '.join(f'`{w}`' for w in flag.words)} | `{flag.file}` | {_cell(flag.help)} |"
        for flag in FLAGS
    ]
    return ["## Flags and keys that take effect", "", "| flag | daemon.json | |", "|---|---|---|",
            *rows]  # fmt: skip


def _without() -> list[str]:
    rows = []
    for key in KEYS:
        names = [f"`--{key.flag}`"] if key.flag else []
        names += [f"`{key.file}`"] if key.file and key.file != key.flag else []
        verdict = "refused" if key.refused else "warning"
        if key.true_here == "any":
            verdict = "taken"
        free = f"`{key.true_here}`" if key.true_here not in {"", "any"} else ""
        rows.append(f"| {' '.join(names)} | {verdict} | {free} | {_cell(key.why)} |")
    rows += [f"| `{word}` | refused | | {_cell(why)} |" for word, why in REMOVED.items()]
    return ["## Docker's that do not", "", "| flag, key | | taken in silence | why |",
            "|---|---|---|---|", *rows]  # fmt: skip


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
