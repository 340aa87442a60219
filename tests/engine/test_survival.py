"""kill -9 of the daemon: containers, traffic and logs go on, promises hold, nothing is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests import oracle
from tests.engine import wire
from tests.engine.conftest import NOT_LOOKED_AT
from tests.engine.daemon import DOCKER, Engine, netkit_only
from tests.torture.run import survive

KILLS = int(os.environ.get("NETKIT_TEST_KILLS", "16"))
SEED = int(os.environ.get("NETKIT_TEST_SEED") or random.SystemRandom().randrange(1 << 32))

pytestmark = netkit_only("a killed dockerd stops its containers unless configured otherwise")


@pytest.mark.timeout(600)
def test_nothing_is_lost_or_leaked_over_many_kills(own_engine: Engine) -> None:
    print(f"seed {SEED}: repeat with NETKIT_TEST_SEED={SEED}")
    report = survive(own_engine, KILLS, SEED, ignore=NOT_LOOKED_AT)
    print(report)
    assert report.acknowledged > KILLS  # the load was real


def revive(engine: Engine, *, once_all_ended: bool = False) -> None:
    """Kill the daemon and start it again: at once, or when no container runs any more."""
    engine.kill9()
    deadline = time.monotonic() + 60
    while once_all_ended and (left := processes_of(engine)):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    engine.restart()


def test_an_exit_while_the_daemon_is_down_is_recorded(own_engine: Engine) -> None:
    name = own_engine.up("busybox", "sh", "-c", "sleep 1; echo last words; exit 23")
    revive(own_engine, once_all_ended=True)
    own_engine.wait_for(name, "Status", "exited")
    state = own_engine.state(name)
    assert (state["ExitCode"], state["Pid"]) == (23, 0)
    assert own_engine.out("logs", name) == "last words"
    assert own_engine.out("wait", name) == "23"


def test_rm_that_fell_due_meanwhile_is_honoured(own_engine: Engine) -> None:
    name = own_engine.up("--rm", "busybox", "sleep", "1")
    revive(own_engine, once_all_ended=True)
    deadline = time.monotonic() + 60
    while own_engine.docker("inspect", name, check=False).returncode == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_restart_policies_that_fell_due_meanwhile_are_honoured(own_engine: Engine) -> None:
    always = own_engine.up("--restart", "always", "busybox", "sh", "-c", "sleep 1.5")
    failing = own_engine.up("--restart", "on-failure:3", "busybox", "sh", "-c", "sleep 1.5; exit 1")
    never = own_engine.up("busybox", "sh", "-c", "sleep 1.5; exit 1")
    before = {name: own_engine.state(name)["StartedAt"] for name in (always, failing, never)}
    revive(own_engine, once_all_ended=True)
    deadline = time.monotonic() + 60
    for name in (always, failing):
        while own_engine.state(name)["StartedAt"] == before[name]:
            assert time.monotonic() < deadline, f"{name} was not started again"
            time.sleep(0.1)
    assert own_engine.state(never)["Status"] == "exited"
    assert " ERROR " not in own_engine.log.read_text()


def test_an_unused_resolver_ends_although_its_daemon_was_killed(
    own_engine: Engine,
) -> None:
    own_engine.docker("network", "create", "named")
    own_engine.docker("rm", "-f", own_engine.sleeper("--network", "named"))
    folder = own_engine.rundir / "dns"
    assert folder.exists(), "it stays for a moment, for the next container"
    revive(own_engine)
    deadline = time.monotonic() + 60
    while folder.exists():
        assert time.monotonic() < deadline, "the resolver was left"
        time.sleep(0.1)
    own_engine.docker("network", "rm", "named")


def test_a_container_stopped_by_hand_stays_stopped(own_engine: Engine) -> None:
    name = own_engine.sleeper("--restart", "unless-stopped")
    own_engine.docker("stop", "-t", "0", name)
    revive(own_engine)
    time.sleep(1)
    assert own_engine.state(name)["Status"] == "exited"


def test_exec_attach_and_logs_work_on_an_adopted_container(own_engine: Engine) -> None:
    name = own_engine.up("-i", "busybox", "sh", "-c", "echo first; cat")
    revive(own_engine)
    assert own_engine.out("exec", name, "echo", "hello") == "hello"
    attach = subprocess.Popen(
        [DOCKER, "-H", own_engine.host, "attach", name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=own_engine.cli_environment(),
    )  # fmt: skip
    with attach:
        assert attach.stdin is not None
        assert attach.stdout is not None
        attach.stdin.write(b"through\n")
        attach.stdin.flush()
        assert attach.stdout.readline() == b"through\n"
        attach.kill()
    assert own_engine.out("logs", name).split() == ["first", "through"]


def test_names_and_ports_work_on_an_adopted_container(own_engine: Engine) -> None:
    own_engine.docker("network", "create", "lane")
    own_engine.up(
        "--network", "lane", "-p", "8200:80", "busybox", "httpd", "-f", "-h", "/www", name="web"
    )
    client = own_engine.sleeper("--network", "lane")
    revive(own_engine)
    wire.connected(own_engine.netns, "http://127.0.0.1:8200/")
    wire.connected(own_engine.wire.neighbour, f"http://{wire.HOST}:8200/")
    assert "hello" in own_engine.out("exec", client, "timeout", "3", "wget", "-qO-", "http://web/")
    own_engine.docker("rm", "-f", "web")
    assert wire.fetch(own_engine.netns, "http://127.0.0.1:8200/", timeout=1) is None


def test_limits_and_health_checks_go_on(own_engine: Engine) -> None:
    name = own_engine.sleeper(
        "--health-cmd", "test -e /well", "--health-interval", "300ms", "--health-retries", "1"
    )
    own_engine.wait_for(name, "Health.Status", "unhealthy")
    revive(own_engine)
    own_engine.docker("exec", name, "touch", "/well")
    own_engine.wait_for(name, "Health.Status", "healthy")


def test_an_ordinary_stop_of_the_daemon_leaves_containers_running(own_engine: Engine) -> None:
    name = own_engine.sleeper()
    pid = own_engine.state(name)["Pid"]
    assert own_engine.stop() == 0
    own_engine.restart()
    assert own_engine.state(name)["Pid"] == pid


def processes_of(engine: Engine) -> list[int]:
    """Return processes that name the engine's folder or have their root there."""
    mark, found = str(engine.folder), []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            text = (proc / "cmdline").read_bytes().decode(errors="replace")
            text += "".join(
                line for line in (proc / "mountinfo").read_text().splitlines() if " / / " in line
            )
        except OSError:
            continue
        if mark in text:
            found.append(int(proc.name))
    return found


def test_a_reboot_starts_clean_and_frees_every_address(own_engine: Engine) -> None:
    own_engine.run("busybox", "true")
    own_engine.docker("network", "create", "--subnet", "10.67.0.0/29", "small")
    names = [own_engine.sleeper("--network", "small") for _ in range(5)]
    again = own_engine.sleeper("--restart", "always", "-p", "8201:80")
    _reboot(own_engine)
    assert {own_engine.state(name)["Status"] for name in names} == {"exited"}
    own_engine.wait_for(again, "Status", "running")
    before = oracle.snapshot(own_engine)
    made = [own_engine.sleeper("--network", "small") for _ in range(5)]  # every address there is
    own_engine.docker("rm", "-f", *made)
    oracle.assert_clean(before, lambda: oracle.snapshot(own_engine), ignore=NOT_LOOKED_AT)
    own_engine.docker("rm", "-f", *names, again)


def _reboot(engine: Engine) -> None:
    """Imitate a reboot: all processes end, /run is emptied and the kernel's objects are lost."""
    engine.kill9()
    for pid in processes_of(engine):
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    points = [
        line.split()[4]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if str(engine.folder) in line.split()[4]
    ]
    for point in reversed(points):
        subprocess.run(["umount", "-l", point], check=True, timeout=20)
    subprocess.run(["rm", "-rf", str(engine.rundir)], check=True, timeout=20)
    for link in wire.run(engine.netns, "ls", "/sys/class/net").stdout.split():
        if link not in {"lo", "eth0"}:
            wire.run(engine.netns, "ip", "link", "del", link)
    for tool in ("iptables", "iptables-legacy"):
        for table in ("nat", "filter", "mangle", "raw"):
            wire.run(engine.netns, tool, "-t", table, "-F")
            wire.run(engine.netns, tool, "-t", table, "-X")
    wire.run(engine.netns, "nft", "flush", "ruleset")
    engine.restart()
