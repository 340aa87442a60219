"""Options of create and run, one by one, each by its effect inside the container."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.engine.daemon import Engine, fresh, unlike_reference


def test_run_prints_what_the_command_prints(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_environment_comes_from_options_files_and_the_image(engine: Engine, folder: Path) -> None:
    file = folder / "env"
    file.write_text("# a comment\nFILED=from file\nBOTH=file\n")
    text = engine.run("-e", "A=1 2", "-e", "BOTH=option", "--env-file", str(file), "busybox", "env")
    have = set(text.splitlines())
    assert {"A=1 2", "FILED=from file", "BOTH=option", "HOME=/root"} <= have
    assert any(line.startswith("PATH=/usr/local/sbin:") for line in have)
    assert any(re.fullmatch(r"HOSTNAME=[0-9a-f]{12}", line) for line in have)


def test_a_variable_without_a_value_is_removed_from_the_image_s(engine: Engine) -> None:
    assert "GREETING" not in engine.run("-e", "GREETING", "busybox", "env")


def test_workdir_is_made_and_entered(engine: Engine) -> None:
    assert engine.run("-w", "/new/deep", "busybox", "pwd") == "/new/deep"


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("app", "uid=1000(app) gid=1001(apps) groups=50(staff)"),
        ("1000", "uid=1000(app) gid=1001(apps) groups=50(staff)"),
        ("app:staff", "uid=1000(app) gid=50(staff)"),
        ("4242:4343", "uid=4242 gid=4343"),
        ("4242", "uid=4242 gid=0(root)"),
    ],
)
def test_user_is_looked_up_in_the_image(engine: Engine, user: str, ids: str) -> None:
    have = engine.run("-u", user, "busybox", "id")
    assert have.startswith(ids.split(" groups", maxsplit=1)[0])
    if "groups=" in ids:
        assert "50(staff)" in have.partition("groups=")[2]


def test_an_unknown_user_is_an_error_that_names_it(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "-u", "nosuch", "busybox", "id", check=False)
    assert done.returncode == 125
    assert "nosuch" in done.stderr


def test_group_add_gives_further_groups(engine: Engine) -> None:
    assert "50(staff)" in engine.run("--group-add", "staff", "busybox", "id")


def test_home_is_the_user_s(engine: Engine) -> None:
    assert engine.run("-u", "app", "busybox", "sh", "-c", "echo $HOME") == "/home/app"


def test_hostname_is_set_everywhere(engine: Engine) -> None:
    text = engine.run("-h", "box", "busybox", "sh", "-c", "hostname; cat /etc/hostname /etc/hosts")
    lines = text.splitlines()
    assert lines[:2] == ["box", "box"]
    assert any(line.split()[1:] == ["box"] for line in lines[2:] if line.startswith("172.17."))


def test_hostname_with_a_domain(engine: Engine) -> None:
    text = engine.run("-h", "box", "--domainname", "example.org", "busybox", "cat", "/etc/hosts")
    assert re.search(r"172\.17\.\S+\s+box\.example\.org\s+box$", text, re.M)


def test_entrypoint_is_replaced_and_the_command_becomes_its_arguments(engine: Engine) -> None:
    assert engine.run("--entrypoint", "echo", "busybox", "a", "b c") == "a b c"


def test_an_empty_entrypoint_resets_the_image_s(engine: Engine) -> None:
    name = fresh("img")
    engine.load_image(name, changes=['ENTRYPOINT ["echo", "entry"]', 'CMD ["default"]'])
    assert engine.run(name) == "entry default"
    assert engine.run(name, "given") == "entry given"
    assert engine.run("--entrypoint", "", name, "echo", "bare") == "bare"


def test_bind_mounts_read_write_and_read_only(engine: Engine, folder: Path) -> None:
    (folder / "in").write_text("from the host\n")
    text = engine.run(
        "-v", f"{folder}:/there", "busybox", "sh", "-c", "cat /there/in; echo hi > /there/out"
    )
    assert text == "from the host"
    assert (folder / "out").read_text() == "hi\n"
    done = engine.docker(
        "run", "--rm", "-v", f"{folder}:/there:ro", "busybox", "touch", "/there/x", check=False
    )
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr


def test_a_bind_mount_of_a_single_file(engine: Engine, folder: Path) -> None:
    (folder / "f").write_text("file\n")
    assert engine.run("-v", f"{folder}/f:/etc/motd:ro", "busybox", "cat", "/etc/motd") == "file"


def test_v_makes_a_missing_source_and_mount_does_not(engine: Engine, folder: Path) -> None:
    engine.run("-v", f"{folder}/made:/m", "busybox", "true")
    assert (folder / "made").is_dir()
    done = engine.docker(
        "run", "--rm", "--mount", f"type=bind,src={folder}/absent,dst=/m", "busybox", check=False
    )
    assert done.returncode == 125
    assert "bind source path does not exist" in done.stderr


def test_mount_option_binds_too(engine: Engine, folder: Path) -> None:
    (folder / "in").write_text("x\n")
    flags = ("--mount", f"type=bind,src={folder},dst=/m,readonly")
    assert engine.run(*flags, "busybox", "sh", "-c", "cat /m/in; touch /m/y || echo ro") == "x\nro"


def test_tmpfs_with_options(engine: Engine) -> None:
    text = engine.run(
        "--tmpfs", "/scratch:rw,size=1m,mode=1777", "busybox", "grep", " /scratch ", "/proc/mounts"
    )
    assert text.startswith("tmpfs /scratch tmpfs rw")
    assert "size=1024k" in text
    assert {"nosuid", "nodev", "noexec"} <= set(re.split(r"[ ,]", text))


def test_a_read_only_root_still_has_working_tmpfs_and_hosts(engine: Engine) -> None:
    text = engine.run(
        "--read-only",
        "--tmpfs",
        "/tmp",
        "busybox",
        "sh",
        "-c",
        "touch /x 2>&1; touch /tmp/y && echo tmp ok; wc -l < /etc/hosts",
    )
    assert "Read-only file system" in text
    assert "tmp ok" in text
    assert int(text.splitlines()[-1]) >= 2


def _caps(engine: Engine, *flags: str) -> int:
    return int(
        engine.run(*flags, "busybox", "sh", "-c", "grep CapEff /proc/self/status").split()[1], 16
    )


NET_ADMIN, CHOWN, SYS_ADMIN = 1 << 12, 1 << 0, 1 << 21
DEFAULT_CAPS = 0xA80425FB  # docker.md section 5: the fourteen


def test_capabilities_are_docker_s_by_default(engine: Engine) -> None:
    assert _caps(engine) == DEFAULT_CAPS


def test_capabilities_added_and_dropped(engine: Engine) -> None:
    assert _caps(engine, "--cap-add", "NET_ADMIN") == DEFAULT_CAPS | NET_ADMIN
    assert _caps(engine, "--cap-drop", "chown") == DEFAULT_CAPS & ~CHOWN
    assert _caps(engine, "--cap-drop", "ALL", "--cap-add", "CAP_CHOWN") == CHOWN


@unlike_reference("asks for capabilities that this machine does not grant")
def test_all_capabilities(engine: Engine) -> None:
    assert _caps(engine, "--cap-add", "ALL") & (NET_ADMIN | SYS_ADMIN) == NET_ADMIN | SYS_ADMIN


def test_an_unknown_capability_is_refused(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "--cap-add", "FLY", "busybox", check=False)
    assert done.returncode == 125
    assert "FLY" in done.stderr.upper()


def test_net_admin_is_needed_for_links(engine: Engine) -> None:
    make = ("ip", "link", "set", "lo", "mtu", "1400")
    assert engine.docker("run", "--rm", "busybox", *make, check=False).returncode != 0
    assert engine.docker("run", "--rm", "--cap-add=NET_ADMIN", "busybox", *make).returncode == 0


def test_a_user_other_than_root_has_no_effective_capabilities(engine: Engine) -> None:
    assert _caps(engine, "-u", "app") == 0


@unlike_reference("asks for capabilities that this machine does not grant")
def test_privileged_has_everything(engine: Engine) -> None:
    text = engine.run(
        "--privileged",
        "busybox",
        "sh",
        "-c",
        "mkdir /mnt; mount -t tmpfs none /mnt && echo mounted;"
        "grep Seccomp: /proc/self/status; ls /dev/kmsg; test -w /sys && echo sys is writable",
    )
    assert "mounted" in text
    assert re.search(r"Seccomp:\s+0", text)
    assert "/dev/kmsg" in text
    assert "sys is writable" in text


def test_the_ordinary_container_is_confined(engine: Engine) -> None:
    text = engine.run(
        "busybox",
        "sh",
        "-c",
        "grep Seccomp: /proc/self/status; mount -t tmpfs none /tmp 2>&1; cat /proc/kcore | wc -c;"
        "echo 1 > /proc/sys/kernel/panic; cat /proc/timer_list 2>/dev/null | wc -c;"
        "ls /sys/firmware | wc -l",
    )
    assert re.search(r"Seccomp:\s+2", text)
    assert "permission denied" in text.lower()
    assert text.splitlines()[-2:] == ["0", "0"]


def test_security_opt_unconfined_and_no_new_privileges(engine: Engine) -> None:
    def status(opt: str, key: str) -> str:
        return engine.run(
            "--security-opt", opt, "busybox", "grep", f"{key}:", "/proc/self/status"
        ).split()[1]

    assert status("seccomp=unconfined", "Seccomp") == "0"
    assert status("no-new-privileges", "NoNewPrivs") == "1"
    assert status("no-new-privileges=false", "NoNewPrivs") == "0"


def test_a_seccomp_profile_of_the_user_s(engine: Engine, folder: Path) -> None:
    profile = folder / "p.json"
    profile.write_text(
        json.dumps(
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
            }
        )
    )
    text = engine.run(
        "--security-opt",
        f"seccomp={profile}",
        "busybox",
        "sh",
        "-c",
        "mkdir /x 2>&1; touch /y && echo ok",
    )
    assert "Operation not permitted" in text
    assert "ok" in text


def test_an_unknown_security_option_is_refused(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "--security-opt", "magic=on", "busybox", check=False)
    assert done.returncode == 125
    assert "magic" in done.stderr


def _limit(engine: Engine, flags: tuple[str, ...], v1: str, v2: str) -> str:
    """Return a control group's setting as the container sees it, cgroup v1 or v2."""
    return engine.run(
        *flags,
        "busybox",
        "sh",
        "-c",
        f"cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}",
    )


def test_memory_limit(engine: Engine) -> None:
    have = _limit(engine, ("-m", "64m"), "memory/memory.limit_in_bytes", "memory.max")
    assert have == str(64 << 20)


def test_swap_is_as_much_again_unless_it_is_given(engine: Engine) -> None:
    """What inspect shows is what the group has: v1 limits both together, v2 swap alone."""
    limited = engine.client.info()["SwapLimit"]
    show = "cd /sys/fs/cgroup; cat memory/memory.memsw.limit_in_bytes 2>/dev/null || cat {}.max"
    name, both = engine.sleeper("-m", "64m"), 64 << 20

    def swap(total: int) -> None:
        assert engine.inspect(name)["HostConfig"]["MemorySwap"] == (total if limited else -1)
        if limited:
            got = engine.out("exec", name, "sh", "-c", show.format("memory.swap"))
            v2 = engine.client.info()["CgroupVersion"] == "2"
            assert got == str(total - both if v2 else total)

    swap(128 << 20)
    engine.out("update", "--memory-swap", "96m", name)
    swap(96 << 20)
    refused = engine.docker("update", "-m", "128m", name, check=False)
    assert not limited or "already set memoryswap limit" in refused.stderr


def test_a_memory_limit_below_the_minimum_is_refused(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "-m", "1m", "busybox", check=False)
    assert done.returncode == 125
    assert "6MB" in done.stderr


def test_a_process_beyond_the_memory_limit_is_killed_and_it_shows(engine: Engine) -> None:
    name = fresh("oom")
    eat = "tail /dev/zero"  # keeps the last line, which never ends
    done = engine.docker(
        "run",
        "--name",
        name,
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        "busybox",
        *eat.split(),
        check=False,
    )
    assert done.returncode == 137
    assert engine.state(name)["OOMKilled"] is True


def test_cpus_is_a_quota(engine: Engine) -> None:
    quota = _limit(engine, ("--cpus", "0.5"), "cpu/cpu.cfs_quota_us", "cpu.max")
    assert quota.split()[0] == "50000"


def test_cpu_shares(engine: Engine) -> None:
    have = _limit(engine, ("--cpu-shares", "512"), "cpu/cpu.shares", "cpu.weight")
    assert have in {"512", "20"}


def test_cpuset(engine: Engine) -> None:
    assert engine.run("--cpuset-cpus", "1", "busybox", "nproc") == "1"


def test_more_cpus_than_there_are_is_refused(engine: Engine) -> None:
    done = engine.docker(
        "run", "--rm", "--cpus", str((os.cpu_count() or 1) + 1), "busybox", check=False
    )
    assert done.returncode == 125
    assert "CPUs" in done.stderr


def test_pids_limit_stops_a_fork_bomb(engine: Engine) -> None:
    have = _limit(engine, ("--pids-limit", "20"), "pids/pids.max", "pids.max")
    assert have == "20"
    bomb = "for i in $(seq 30); do sleep 1 & done"
    done = engine.docker(
        "run", "--rm", "--pids-limit", "10", "busybox", "sh", "-c", bomb, check=False
    )
    assert done.returncode == 2
    assert "can't fork" in done.stderr


def test_ulimits(engine: Engine) -> None:
    text = engine.run(
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "core=0",
        "busybox",
        "sh",
        "-c",
        "ulimit -Sn; ulimit -Hn; ulimit -c",
    )
    assert text.split() == ["100", "200", "0"]


def test_sysctls_of_the_container_s_namespaces(engine: Engine) -> None:
    text = engine.run(
        "--sysctl",
        "net.ipv4.ip_unprivileged_port_start=99",
        "--sysctl",
        "kernel.shmmax=123456",
        "busybox",
        "cat",
        "/proc/sys/net/ipv4/ip_unprivileged_port_start",
        "/proc/sys/kernel/shmmax",
    )
    assert text.split() == ["99", "123456"]


def test_a_sysctl_of_the_whole_machine_is_refused(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "--sysctl", "kernel.panic=1", "busybox", check=False)
    assert done.returncode == 125
    assert "kernel.panic" in done.stderr


def test_devices(engine: Engine) -> None:
    text = engine.run(
        "--device",
        "/dev/null:/dev/mine:rw",
        "busybox",
        "sh",
        "-c",
        "echo x > /dev/mine && ls -l /dev/mine",
    )
    assert re.match(r"crw.*\s1,\s+3\s", text)
    default = engine.run("busybox", "ls", "/dev").split()
    assert {
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "pts",
        "shm",
        "mqueue",
        "stdin",
    } <= set(default)
    assert "mem" not in default


def test_a_device_that_is_not_there_is_refused(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "--device", "/dev/nosuch", "busybox", check=False)
    assert done.returncode == 127  # the CLI's rule for "no such file or directory"
    assert "/dev/nosuch" in done.stderr


def test_init_is_process_one_and_reaps(engine: Engine) -> None:
    text = engine.run("--init", "busybox", "ps", "-o", "pid,args").splitlines()
    assert re.match(r"\s*1 .*init", text[1])
    assert not re.match(
        r"\s*1 .*init", engine.run("busybox", "ps", "-o", "pid,args").splitlines()[1]
    )


def test_labels_from_options_and_files(engine: Engine, folder: Path) -> None:
    file = folder / "labels"
    file.write_text("filed=yes\n")
    name = engine.sleeper("-l", "a=1", "--label", "bare", "--label-file", str(file))
    assert engine.inspect(name)["Config"]["Labels"] == {"a": "1", "bare": "", "filed": "yes"}


def test_cidfile(engine: Engine, folder: Path) -> None:
    file = folder / "cid"
    engine.run("--cidfile", str(file), "busybox", "true")
    assert re.fullmatch(r"[0-9a-f]{64}", file.read_text())
    done = engine.docker("run", "--rm", "--cidfile", str(file), "busybox", check=False)
    assert done.returncode == 125


def test_pid_host_sees_the_machine(engine: Engine) -> None:
    pid = str(os.getpid())
    assert engine.run("--pid", "host", "busybox", "readlink", "/proc/self") != "1"
    assert pid in engine.run("--pid", "host", "busybox", "ps", "-o", "pid").split()
    assert pid not in engine.run("busybox", "ps", "-o", "pid").split()[1:2]


def test_pid_of_another_container(engine: Engine) -> None:
    other = engine.up("busybox", "sleep", "98765")
    assert "sleep 98765" in engine.run("--pid", f"container:{other}", "busybox", "ps", "-o", "args")


@pytest.mark.parametrize(
    ("option", "link"), [("ipc", "ipc"), ("uts", "uts"), ("pid", "pid"), ("network", "net")]
)
def test_host_namespaces(engine: Engine, option: str, link: str) -> None:
    def seen(*flags: str) -> str:
        return engine.run(*flags, "busybox", "readlink", f"/proc/self/ns/{link}")

    # For all but the network the engine's namespace is this test's own.
    mine = os.readlink(f"/proc/{engine.pid}/ns/{link}")
    assert seen(f"--{option}", "host") == mine
    assert seen() != mine


def test_shm_size(engine: Engine) -> None:
    assert "size=8192k" in engine.run(
        "--shm-size", "8m", "busybox", "grep", " /dev/shm ", "/proc/mounts"
    )
    assert "size=65536k" in engine.run("busybox", "grep", " /dev/shm ", "/proc/mounts")


def test_add_host_and_dns_options(engine: Engine) -> None:
    text = engine.run(
        "--add-host",
        "db:10.9.8.7",
        "--add-host",
        "gate:host-gateway",
        "--dns",
        "192.0.2.53",
        "--dns-search",
        "example.org",
        "--dns-option",
        "ndots:3",
        "busybox",
        "cat",
        "/etc/hosts",
        "/etc/resolv.conf",
    )
    assert re.search(r"^10\.9\.8\.7\s+db$", text, re.M)
    assert re.search(r"^172\.17\.0\.1\s+gate$", text, re.M)
    assert "nameserver 192.0.2.53" in text
    assert "search example.org" in text
    assert re.search(r"^options .*ndots:3", text, re.M)


def test_oom_score_adj(engine: Engine) -> None:
    assert (
        engine.run("--oom-score-adj", "321", "busybox", "cat", "/proc/self/oom_score_adj") == "321"
    )


@unlike_reference("this CLI needs API 1.44 for it")
def test_mac_address(engine: Engine) -> None:
    have = engine.run(
        "--mac-address", "02:42:ac:11:00:99", "busybox", "cat", "/sys/class/net/eth0/address"
    )
    assert have == "02:42:ac:11:00:99"


def test_stop_signal_and_timeout_are_kept(engine: Engine) -> None:
    config = engine.inspect(engine.sleeper("--stop-signal", "SIGINT"))["Config"]
    assert (config["StopSignal"], config["StopTimeout"]) == ("SIGINT", 1)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--network", "nosuch"), "nosuch"),
        (("--name", "-bad-"), "-bad-"),
        (("--volumes-from", "nosuch"), "nosuch"),
        (("--log-driver", "nosuch"), "nosuch"),
        (("--runtime", "nosuch"), "nosuch"),
        (("-p", "70000:80"), "70000"),
        (("--ip", "172.17.0.9"), "user"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    engine: Engine, flags: tuple[str, ...], named: str
) -> None:
    done = engine.docker("run", "--rm", *flags, "busybox", "true", check=False)
    assert done.returncode == 125
    assert named in done.stderr


def test_an_unknown_restart_policy_is_refused(engine: Engine) -> None:
    done = engine.docker("create", "--restart", "sometimes", "busybox", check=False)
    assert done.returncode == 1
    assert "sometimes" in done.stderr


def test_restart_always_cannot_be_combined_with_rm(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "--restart", "always", "busybox", check=False)
    assert done.returncode == 125


@unlike_reference("20.10 has no --annotation")
def test_annotations_reach_inspect(engine: Engine) -> None:
    name = engine.sleeper("--annotation", "org.example=x")
    assert engine.inspect(name)["HostConfig"]["Annotations"] == {"org.example": "x"}
