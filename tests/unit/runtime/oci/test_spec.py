"""config.json of a container: Docker's profile, and every option by what it changes there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from netkit.errors import InvalidSpec
from runtime.container.config import BindOptions, Config, Device, HostConfig, Mount, Ulimit
from runtime.oci import capabilities, resources, spec
from runtime.oci.cgroups import Cgroups
from runtime.oci.inputs import BundleMount, ContainerPaths, HostInfo
from runtime.oci.users import User

V1 = Cgroups(
    version=1,
    controllers=frozenset("memory cpu cpuset pids blkio devices freezer".split()),
    swap=True,
)
V2 = Cgroups(version=2, controllers=frozenset({"memory", "cpu", "cpuset", "pids", "io"}), swap=True)


def host(cgroups: Cgroups = V2, **changes: Any) -> HostInfo:
    facts: dict[str, Any] = {
        "machine": "x86_64",
        "cgroups": cgroups,
        "bounding": capabilities.ALL,
        "hard_limits": {"nofile": 20000},
        "raise_limits": True,
        "cpus": 4,
        "init": "/usr/bin/tini",
    }
    return HostInfo(**{**facts, **changes})


def config(**changes: Any) -> Config:
    return Config(**{"cmd": ["sh", "-c", "true"], "hostname": "box", **changes})


def built(
    c: Config | None = None,
    h: HostConfig | None = None,
    *,
    on: HostInfo | None = None,
    user: User | None = None,
    mounts: tuple[BundleMount, ...] = (),
    **places: str,
) -> dict[str, Any]:
    where = {"id": "c1", "rootfs": "/rootfs", "netns": "/run/ns", "cgroup": "/nk/c1", **places}
    return spec.build(
        c or config(),
        h or HostConfig(),
        ContainerPaths(**where),
        user or User(),
        mounts,
        on or host(),
    )


def refused(h: HostConfig | None = None, c: Config | None = None, **facts: Any) -> str:
    with pytest.raises(InvalidSpec) as caught:
        spec.check(c or config(), h or HostConfig(), host(**facts))
    return str(caught.value)


def mount_at(document: dict[str, Any], path: str) -> dict[str, Any]:
    (found,) = [m for m in document["mounts"] if m["destination"] == path]
    return found


def test_the_default_profile_is_docker_s() -> None:
    document = built()
    linux = document["linux"]
    assert document["ociVersion"] == "1.0.2"
    assert set(document["process"]["capabilities"]["bounding"]) == set(capabilities.DEFAULT)
    assert len(capabilities.DEFAULT) == 14
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware", "/proc/timer_list"} <= set(
        linux["maskedPaths"]
    )
    assert set(linux["readonlyPaths"]) == {
        "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
    }  # fmt: skip
    assert linux["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    assert linux["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert document["process"]["noNewPrivileges"] is False
    assert document["root"] == {"path": "/rootfs", "readonly": False}


def test_inheritable_and_ambient_capabilities_are_empty() -> None:
    sets = built()["process"]["capabilities"]
    assert not sets.get("inheritable")
    assert not sets.get("ambient")


def test_another_user_than_root_has_no_effective_capabilities() -> None:
    sets = built(user=User(uid=1000, gid=1000))["process"]["capabilities"]
    assert sets["effective"] == sets["permitted"] == []
    assert set(sets["bounding"]) == set(capabilities.DEFAULT)


def test_default_mounts_and_the_size_of_shm() -> None:
    document = built()
    assert [m["destination"] for m in document["mounts"]][:2] == ["/proc", "/dev"]
    assert f"size={64 << 20}" in mount_at(document, "/dev/shm")["options"]
    assert "ro" in mount_at(document, "/sys")["options"]
    assert "ro" in mount_at(document, "/sys/fs/cgroup")["options"]
    small = built(h=HostConfig(shm_size=1 << 20))
    assert "size=1048576" in mount_at(small, "/dev/shm")["options"]


def test_a_mount_of_the_user_replaces_the_standard_one_there() -> None:
    mine = BundleMount(source="/src", destination="/dev/shm/")
    document = built(mounts=(mine,))
    assert [m["source"] for m in document["mounts"] if "shm" in m["destination"]] == ["/src"]


def test_mounts_come_parents_first() -> None:
    deep = BundleMount(source="/a", destination="/x/y/z")
    top = BundleMount(source="/b", destination="/x")
    order = [m["destination"] for m in built(mounts=(deep, top))["mounts"]]
    assert order.index("/x") < order.index("/x/y/z")


def test_tmpfs_options_are_added_to_docker_s() -> None:
    document = built(h=HostConfig(tmpfs={"/t": "rw,size=1m", "/e": "exec"}))
    assert mount_at(document, "/t")["options"] == ["noexec", "nosuid", "nodev", "rw", "size=1m"]
    assert "noexec" not in mount_at(document, "/e")["options"]


@pytest.mark.parametrize("path", ["relative", "/"])
def test_impossible_tmpfs_places_are_refused(path: str) -> None:
    refused(HostConfig(tmpfs={path: ""}))


def test_an_unknown_tmpfs_option_is_refused_by_name() -> None:
    assert "'colour=red'" in refused(HostConfig(tmpfs={"/t": "colour=red"}))


def test_privileged_has_all_capabilities_and_no_masks() -> None:
    document = built(h=HostConfig(privileged=True))
    linux = document["linux"]
    assert document["process"]["capabilities"]["bounding"] == list(capabilities.ALL)
    assert linux["maskedPaths"] == linux["readonlyPaths"] == []
    assert "seccomp" not in linux
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "rw" in mount_at(document, "/sys")["options"]


def test_namespaces_follow_the_modes() -> None:
    def kinds(**places: str) -> dict[str, str | None]:
        found = built(**places)["linux"]["namespaces"]
        return {n["type"]: n.get("path") for n in found}

    assert kinds() == {
        "mount": None, "network": "/run/ns", "pid": None, "ipc": None, "uts": None, "cgroup": None,
    }  # fmt: skip
    assert "network" not in kinds(netns="")
    assert "pid" not in kinds(pid="host")
    assert kinds(ipc="/proc/7/ns/ipc")["ipc"] == "/proc/7/ns/ipc"
    v1 = built(on=host(V1))["linux"]["namespaces"]
    assert "cgroup" not in {n["type"] for n in v1}


def test_docker_s_network_sysctls_are_set_but_never_on_the_host_s_network() -> None:
    assert built()["linux"]["sysctl"] == {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 2147483647",
    }
    assert "sysctl" not in built(netns="")["linux"]
    mine = built(h=HostConfig(sysctls={"net.ipv4.ip_unprivileged_port_start": "1024"}))
    assert mine["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"] == "1024"


@pytest.mark.parametrize(
    ("name", "host_config"),
    [
        ("kernel.panic", {}),
        ("net.ipv4.ip_forward", {"network_mode": "host"}),
        ("kernel.shmmax", {"ipc_mode": "host"}),
    ],
)
def test_sysctls_that_would_change_the_host_are_refused(
    name: str, host_config: dict[str, Any]
) -> None:
    assert f"'{name}'" in refused(HostConfig(sysctls={name: "1"}, **host_config))


def test_no_new_privileges_in_all_its_spellings() -> None:
    def nnp(option: str) -> bool:
        document = built(h=HostConfig(security_opt=[option]))
        return bool(document["process"]["noNewPrivileges"])

    assert nnp("no-new-privileges")
    assert nnp("no-new-privileges:true")
    assert nnp("no-new-privileges=true")
    assert not nnp("no-new-privileges=false")


def test_seccomp_of_the_user() -> None:
    free = built(h=HostConfig(security_opt=["seccomp=unconfined"]))
    assert "seccomp" not in free["linux"]
    builtin = built(h=HostConfig(security_opt=["seccomp=builtin"]))
    assert builtin["linux"]["seccomp"] == built()["linux"]["seccomp"]
    text = '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO"}]}'  # noqa: E501
    own = built(h=HostConfig(security_opt=[f"seccomp={text}"]))["linux"]["seccomp"]
    assert own["defaultAction"] == "SCMP_ACT_ALLOW"
    assert own["syscalls"] == [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO"}]


def test_a_profile_of_the_user_holds_for_a_privileged_container_too() -> None:
    text = '{"defaultAction":"SCMP_ACT_ALLOW"}'
    document = built(h=HostConfig(privileged=True, security_opt=[f"seccomp={text}"]))
    assert document["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ALLOW"


def test_what_security_cannot_be_given_is_refused() -> None:
    spec.check(config(), HostConfig(security_opt=["apparmor=unconfined", "label=disable"]), host())
    for option in ("apparmor=mine", "label=type:x", "fly=high", "seccomp={not json"):
        refused(HostConfig(security_opt=[option]))


def test_system_paths_unconfined_unmasks() -> None:
    linux = built(h=HostConfig(security_opt=["systempaths=unconfined"]))["linux"]
    assert linux["maskedPaths"] == linux["readonlyPaths"] == []


def test_ulimits_reach_the_process_and_minus_one_is_unlimited() -> None:
    limits = built(
        h=HostConfig(ulimits=[Ulimit(name="nofile", soft=10, hard=20),
                              Ulimit(name="core", soft=-1, hard=-1)])
    )["process"]["rlimits"]  # fmt: skip
    assert limits == [
        {"type": "RLIMIT_NOFILE", "hard": 20, "soft": 10},
        {"type": "RLIMIT_CORE", "hard": 2**64 - 1, "soft": 2**64 - 1},
    ]


@pytest.mark.parametrize(
    "limit",
    [Ulimit(name="nosuch", soft=1, hard=1), Ulimit(name="nofile", soft=9, hard=8),
     Ulimit(name="nofile", soft=-1, hard=8)],
)  # fmt: skip
def test_impossible_ulimits_are_refused(limit: Ulimit) -> None:
    refused(HostConfig(ulimits=[limit]))


def test_a_ulimit_above_the_daemon_s_needs_a_capability() -> None:
    above = HostConfig(ulimits=[Ulimit(name="nofile", soft=1, hard=20001)])
    assert "CAP_SYS_RESOURCE" in refused(above, raise_limits=False)
    spec.check(config(), above, host(raise_limits=True))
    at = HostConfig(ulimits=[Ulimit(name="nofile", soft=1, hard=20000)])
    spec.check(config(), at, host(raise_limits=False))


def test_init_runs_the_command_under_the_host_s_init() -> None:
    document = built(h=HostConfig(init=True))
    assert document["process"]["args"] == ["/sbin/docker-init", "--", "sh", "-c", "true"]
    assert mount_at(document, "/sbin/docker-init")["source"] == "/usr/bin/tini"
    assert "install tini" in refused(HostConfig(init=True), init="")


def test_entrypoint_comes_before_the_command() -> None:
    c = config(entrypoint=["/entry"], cmd=["a", "b"])
    assert built(c)["process"]["args"] == ["/entry", "a", "b"]


def test_environment_has_docker_s_defaults_under_the_user_s() -> None:
    env = built(config(env=["A=1", "PATH=/mine", "A=2", "HOSTNAME"], tty=True),
                user=User(uid=1, gid=1, home="/home/x"))["process"]["env"]  # fmt: skip
    assert env == ["PATH=/mine", "HOME=/home/x", "TERM=xterm", "A=2"]


@pytest.mark.parametrize("path", ["/proc", "/proc/self/fd/7", "/x/../proc/self"])
def test_a_working_directory_in_proc_is_refused(path: str) -> None:
    """CVE-2024-21626."""
    assert "/proc" in refused(c=config(working_dir=path))


def test_a_device_of_the_host_with_its_permissions() -> None:
    device = Device(path_on_host="/dev/null", path_in_container="/dev/mine", cgroup_permissions="r")
    linux = built(h=HostConfig(devices=[device]))["linux"]
    (node,) = linux["devices"]
    assert (node["path"], node["type"], node["major"], node["minor"]) == ("/dev/mine", "c", 1, 3)
    assert linux["resources"]["devices"][-1] == {
        "allow": True, "type": "c", "major": 1, "minor": 3, "access": "r",
    }  # fmt: skip


def test_a_device_that_is_not_there_or_is_none_is_named() -> None:
    for path in ("/dev/nosuch", "/etc/passwd"):
        with pytest.raises(InvalidSpec, match=path):
            built(h=HostConfig(devices=[Device(path_on_host=path)]))


def test_device_rules_of_the_user_come_last() -> None:
    rules = built(h=HostConfig(device_cgroup_rules=["c 10:* rw"]))["linux"]["resources"]["devices"]
    assert rules[-1] == {"allow": True, "type": "c", "major": 10, "access": "rw"}
    for wrong in ("c 10 rw", "x 1:1 r", "c 1:1 q", "c 1:1 r\n"):
        refused(HostConfig(device_cgroup_rules=[wrong]))


def test_shared_mounts_need_a_shared_root() -> None:
    def spread(**changes: Any) -> str | None:
        found: str | None = built(h=HostConfig(**changes))["linux"].get("rootfsPropagation")
        return found

    assert spread(binds=["/a:/b:rshared"]) == "shared"
    slave = Mount(type="bind", bind_options=BindOptions(propagation="rslave"))
    assert spread(mounts=[slave]) == "slave"
    assert spread(binds=["/a:/b"]) is None


@pytest.mark.parametrize("path", ["//proc/self/fd/7", "//proc"])
def test_a_working_directory_in_proc_is_refused_behind_two_slashes(path: str) -> None:
    assert "/proc" in refused(c=config(working_dir=path))


def test_a_relative_working_directory_of_an_image_is_refused() -> None:
    assert "absolute" in refused(c=config(working_dir="app"))


def test_a_tmpfs_on_the_root_is_refused_behind_two_slashes() -> None:
    refused(HostConfig(tmpfs={"//": ""}))


def test_no_new_privileges_must_be_true_or_false() -> None:
    assert "maybe" in refused(HostConfig(security_opt=["no-new-privileges:maybe"]))


def test_a_ulimit_below_minus_one_is_refused() -> None:
    refused(HostConfig(ulimits=[Ulimit(name="nofile", soft=-7, hard=-3)]))


def test_the_cgroup_namespace_is_as_asked_for() -> None:
    def private(mode: str, cgroups: Cgroups) -> bool:
        document = built(h=HostConfig(cgroupns_mode=mode), on=host(cgroups))
        return "cgroup" in {n["type"] for n in document["linux"]["namespaces"]}

    assert private("", V2)
    assert not private("", V1)
    assert private("private", V1)
    assert not private("host", V2)


def test_the_domain_name_is_the_kernel_s_too() -> None:
    named = config(domainname="example.org")
    assert built(named)["linux"]["sysctl"].get("kernel.domainname") == "example.org"
    assert "kernel.domainname" not in built(named, uts="host")["linux"]["sysctl"]


@pytest.mark.parametrize(
    ("cgroups", "given", "applied", "swap"),
    [
        (V2, {"memory": 64 << 20}, {"memory_swap": 128 << 20}, 128 << 20),
        (V1, {"memory": 64 << 20}, {"memory_swap": 128 << 20}, 128 << 20),
        (V1, {"memory": 64 << 20, "memory_swap": -1}, {}, -1),
        (V2, {"memory": 64 << 20, "memory_swap": 64 << 20}, {}, 64 << 20),
        (V2, {}, {"memory_swap": 0}, None),
        (replace(V1, swap=False), {"memory": 64 << 20}, {"memory_swap": -1}, None),
        (V2, {"oom_kill_disable": True, "memory_swappiness": 9},
         {"oom_kill_disable": None, "memory_swappiness": None}, None),
        (V1, {"memory_swappiness": -1}, {"memory_swappiness": None}, None),
        (replace(V2, controllers=frozenset()),
         {"memory": 64 << 20, "cpu_shares": 5, "cpuset_cpus": "0", "pids_limit": 3,
          "blkio_weight": 10},
         {"memory": 0, "memory_swap": 0, "cpu_shares": 0, "cpuset_cpus": "", "pids_limit": None,
          "blkio_weight": 0}, None),
    ],
)  # fmt: skip
def test_inspect_shows_the_limits_that_apply(
    cgroups: Cgroups, given: dict[str, Any], applied: dict[str, Any], swap: int | None
) -> None:
    document = HostConfig(**given)
    resources.complete(document, cgroups)
    expected = given | applied
    assert {name: getattr(document, name) for name in expected} == expected
    assert resources.render(document, cgroups).get("memory", {}).get("swap") == swap
