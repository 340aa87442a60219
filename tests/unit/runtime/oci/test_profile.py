"""Capabilities, seccomp, users and limits of a container, without a host."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.errors import InvalidSpec
from runtime.container.config import HostConfig
from runtime.oci import abi, capabilities, resources, seccomp, users
from runtime.oci.cgroups import Cgroups

V1 = Cgroups(version=1, controllers=frozenset({"memory", "cpu", "cpuset", "pids"}), swap=True)
BARE = Cgroups(version=1, controllers=frozenset(), swap=False)


def caps(add: list[str] = [], drop: list[str] = [], **more: Any) -> set[str]:  # noqa: B006
    have = more.pop("have", capabilities.ALL)
    return set(capabilities.chosen(add, drop, privileged=more.pop("privileged", False), have=have))


def test_capabilities_are_added_and_dropped_in_any_spelling() -> None:
    default = set(capabilities.DEFAULT)
    assert caps() == default
    assert caps(["net_admin", "CAP_SYS_TIME"]) == default | {"CAP_NET_ADMIN", "CAP_SYS_TIME"}
    assert caps(drop=["chown"]) == default - {"CAP_CHOWN"}
    assert caps(["CHOWN"], ["ALL"]) == {"CAP_CHOWN"}
    assert caps(["all"], ["MKNOD"]) == set(capabilities.ALL) - {"CAP_MKNOD"}


def test_no_container_gets_what_the_daemon_lacks() -> None:
    have = [c for c in capabilities.ALL if c != "CAP_SYS_ADMIN"]
    assert caps(privileged=True, have=have) == set(have)
    assert caps(["ALL"], have=have) == set(have)
    with pytest.raises(InvalidSpec, match="CAP_SYS_ADMIN"):
        caps(["SYS_ADMIN"], have=have)


def test_an_unknown_capability_is_refused_as_docker_does() -> None:
    with pytest.raises(InvalidSpec, match='invalid capability: "FLY"'):
        caps(["FLY"])


def test_the_bounding_set_is_read_by_bit() -> None:
    assert capabilities.available(0b101) == ("CAP_CHOWN", "CAP_DAC_READ_SEARCH")
    assert len(capabilities.available((1 << 41) - 1)) == 41


def rules(*have: str, machine: str = "x86_64") -> dict[str, list[dict[str, Any]]]:
    """What the builtin profile says of each call."""
    out: dict[str, list[dict[str, Any]]] = {}
    for rule in seccomp.resolve(seccomp.builtin(), have, machine)["syscalls"]:
        for name in rule["names"]:
            out.setdefault(name, []).append(rule)
    return out


def test_the_profile_names_its_source() -> None:
    assert "containers/common" in seccomp.builtin()["source"]


def test_calls_that_no_container_may_make() -> None:
    """The built-in profile denies dangerous calls and allows harmless new ones."""
    have = rules(*capabilities.DEFAULT)
    for name in ("io_uring_setup", "io_uring_enter", "userfaultfd", "keyctl", "add_key",
                 "request_key", "kexec_load", "swapon", "mount", "bpf", "setns", "unshare",
                 "open_by_handle_at", "reboot", "init_module", "settimeofday"):  # fmt: skip
        assert name not in have, name
    for name in ("openat2", "landlock_create_ruleset", "pidfd_open", "ptrace", "chroot"):
        assert have[name][0]["action"] == "SCMP_ACT_ALLOW", name


def test_clone3_is_unknown_and_clone_makes_no_namespaces() -> None:
    have = rules(*capabilities.DEFAULT)
    assert [(r["action"], r["errnoRet"]) for r in have["clone3"]] == [("SCMP_ACT_ERRNO", 38)]
    (clone,) = have["clone"]
    assert clone["args"][0]["value"] == 0x7E020000
    free = rules(*capabilities.DEFAULT, "CAP_SYS_ADMIN")
    assert [r["action"] for r in free["clone3"]] == ["SCMP_ACT_ALLOW"]
    assert "args" not in free["clone"][0]


@pytest.mark.parametrize(
    ("family", "allowed"), [(2, 1), (16, 1), (38, 0), (39, 1), (40, 0), (44, 1)]
)
def test_sockets_of_the_kernel_s_crypto_and_of_virtual_machines_are_refused(
    family: int, allowed: int
) -> None:
    tests = {"SCMP_CMP_LT": int.__lt__, "SCMP_CMP_EQ": int.__eq__, "SCMP_CMP_GT": int.__gt__}
    hits = [
        rule
        for rule in rules()["socket"]
        if all(tests[a["op"]](family, a["value"]) for a in rule["args"])
    ]
    assert len(hits) == allowed


def test_capabilities_open_their_calls() -> None:
    for capability, name in (("SYS_ADMIN", "mount"), ("SYS_BOOT", "reboot"), ("BPF", "bpf"),
                             ("SYS_TIME", "settimeofday"), ("SYSLOG", "syslog"),
                             ("DAC_READ_SEARCH", "open_by_handle_at")):  # fmt: skip
        assert name in rules(f"CAP_{capability}")
    assert "chroot" not in rules()


def test_rules_are_for_the_machine() -> None:
    assert "arch_prctl" in rules()
    assert "arch_prctl" not in rules(machine="aarch64")
    found = seccomp.resolve(seccomp.builtin(), (), "x86_64")["architectures"]
    assert found == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]


def test_what_the_kernel_does_not_have_is_left_out_of_what_is_for_all_machines() -> None:
    found = seccomp.resolve(seccomp.builtin(), (), "x86_64", {abi.X32})["architectures"]
    assert found == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    given = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", abi.X32]}
    assert seccomp.resolve(given, (), "x86_64", {abi.X32})["architectures"][1:] == [abi.X32]


def test_an_abi_that_may_not_even_be_asked_for_is_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = tmp_path / "python"
    for does, absent in (("exit 0", set()), ("exit 1", {abi.X32}), ("kill -SYS $$", {abi.X32})):
        asked.write_text(f"#!/bin/sh\n{does}\n")
        asked.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(asked))
        assert abi.absent("x86_64") == absent
        assert abi.absent("aarch64") == set()


def test_a_user_s_profile_must_be_one() -> None:
    for text in ("", "[]", "{}", '{"syscalls":[]}'):
        with pytest.raises(InvalidSpec):
            seccomp.parse(text)


@pytest.mark.parametrize("rule", [{"action": "SCMP_ACT_ALLOW"}, {"names": ["a"]}])
def test_a_malformed_rule_of_the_user_is_an_invalid_profile(rule: dict[str, Any]) -> None:
    text = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    with pytest.raises(InvalidSpec):
        seccomp.resolve(seccomp.parse(text), (), "x86_64")


def test_rules_for_newer_kernels_do_not_apply() -> None:
    rule = {"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}}
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}
    assert seccomp.resolve(profile, (), "x86_64")["syscalls"] == []


PASSWD = b"""# comment
root:x:0:0:root:/root:/bin/sh
app:x:1000:1001::/home/app:/bin/sh
broken
huge:x:9999999999:1::/:/bin/sh
"""
GROUP = b"root:x:0:\napps:x:1001:\nstaff:x:50:app,root\nnone:x:60:\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0, (0, 50), "/root")),
        ("root", (0, 0, (0, 50), "/root")),
        ("app", (1000, 1001, (1001, 50), "/home/app")),
        ("1000", (1000, 1001, (1001, 50), "/home/app")),
        ("app:none", (1000, 60, (60,), "/home/app")),
        ("app:7", (1000, 7, (7,), "/home/app")),
        ("4242", (4242, 0, (0,), "/")),
        ("4242:4343", (4242, 4343, (4343,), "/")),
    ],
)
def test_users_are_looked_up_in_the_image(text: str, expected: tuple[object, ...]) -> None:
    user = users.resolve(text, PASSWD, GROUP)
    assert (user.uid, user.gid, user.groups, user.home) == expected


def test_an_image_without_users_still_has_root() -> None:
    user = users.resolve("", b"", b"")
    assert (user.uid, user.gid) == (0, 0)


def test_further_groups_by_name_and_number() -> None:
    assert users.resolve("4242", PASSWD, GROUP, ["staff", "77", "staff"]).groups == (0, 50, 77)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosuch", "unable to find user nosuch: no matching entries in passwd file"),
        ("root:nosuch", "unable to find group nosuch: no matching entries in group file"),
        ("2147483648", "range 0-2147483647"),
        ("0:4294967296", "range 0-2147483647"),
        ("-1", "range 0-2147483647"),
        ("9" * 5000, "range 0-2147483647"),
    ],
)
def test_users_that_cannot_be_are_refused_in_docker_s_words(text: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        users.resolve(text, PASSWD, GROUP)


@pytest.mark.parametrize("odd", ["²", "٣", "9" * 5000, " 1", "1_0"])
def test_odd_numbers_in_an_image_s_files_are_passed_over(odd: str) -> None:
    passwd = f"odd:x:{odd}:0::/:\nodd:x:0:{odd}::/:\n".encode() + PASSWD
    group = f"odd:x:{odd}:app\n".encode() + GROUP
    assert users.resolve("app", passwd, group) == users.resolve("app", PASSWD, GROUP)


@pytest.mark.slow
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_passwd_file_of_an_image_breaks_the_lookup(passwd: bytes, group: bytes) -> None:
    assert users.resolve("0:0", passwd, group).uid <= users.MAX_ID


def refused(**changes: Any) -> str:
    with pytest.raises(InvalidSpec) as caught:
        resources.check(HostConfig(**changes), 4, V1)
    return str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"memory": 6 * 2**20 - 1}, "Minimum memory limit allowed is 6MB"),
        ({"nano_cpus": 4_010_000_000}, "0.01 to 4.00, as there are only 4 CPUs available"),
        ({"nano_cpus": 1}, "range of CPUs"),
        ({"nano_cpus": 10**9, "cpu_quota": 1000}, "Nano CPUs and CPU Quota cannot both be set"),
        ({"memory_swap": 10**9}, "always set the Memory limit"),
        ({"memory": 10**8, "memory_swap": 10**7}, "Minimum memoryswap limit"),
        ({"memory": 10**7, "memory_reservation": 10**8}, "memory reservation"),
        ({"cpu_period": 999}, "cfs period"),
        ({"cpu_quota": 999}, "cfs quota"),
        ({"blkio_weight": 5}, "Range of blkio weight is from 10 to 1000"),
        ({"oom_score_adj": 1001}, "oom score adj"),
        ({"memory_swappiness": 101}, "swappiness"),
        ({"cpuset_cpus": "0-9999999999"}, "cpuset-cpus"),
        ({"cpuset_cpus": "4"}, "Requested CPUs are not available"),
        ({"cpuset_cpus": "2-1"}, "Invalid value 2-1"),
    ],
)
def test_limits_that_make_no_sense_are_refused_in_docker_s_words(
    settings: dict[str, Any], message: str
) -> None:
    assert message in refused(**settings)


def test_limits_reach_the_runtime() -> None:
    settings = HostConfig(memory=10**8, nano_cpus=1_500_000_000, cpuset_cpus="0,2", pids_limit=50,
                      cpu_shares=512)  # fmt: skip
    assert resources.render(settings, V1) == {
        "memory": {"limit": 10**8, "swap": 2 * 10**8},
        "cpu": {"shares": 512, "period": 100_000, "quota": 150_000, "cpus": "0,2"},
        "pids": {"limit": 50},
    }
    assert resources.render(HostConfig(memory=10**8, memory_swap=-1), V1)["memory"]["swap"] == -1
    assert resources.render(HostConfig(pids_limit=-1), V1) == {"pids": {"limit": -1}}
    assert resources.render(HostConfig(), V1) == {}


def test_what_this_host_cannot_limit_is_a_warning_and_not_passed_on() -> None:
    settings = HostConfig(memory=10**8, nano_cpus=10**9, pids_limit=5)
    warnings = resources.check(settings, 4, BARE)
    assert all(any(what in w for w in warnings) for what in ("memory limit", "CPU limit", "PIDs"))
    assert resources.render(settings, BARE) == {}
