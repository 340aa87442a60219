"""create, start, stop, kill, restart, pause, wait, rename, update, rm; exit codes; policies."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.engine.daemon import DOCKER, Engine, fresh, netkit_only


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 3"), 3),
        (("sh", "-c", "sleep 9 & kill -9 $!; wait $!"), 137),
        (("nosuchprogram",), 127),
        (("/not-executable",), 126),
        (("/etc",), 126),
    ],
)
def test_exit_code_of_run(engine: Engine, command: tuple[str, ...], code: int) -> None:
    done = engine.docker("run", "--rm", "busybox", *command, check=False)
    assert done.returncode == code, done.stderr


def test_exit_code_125_is_the_engine_s(engine: Engine) -> None:
    assert engine.docker("run", "--rm", "--cpus", "-1", "busybox", check=False).returncode == 125
    done = engine.docker("run", "--rm", "--name", "a b", "busybox", check=False)
    assert done.returncode == 125
    assert "Invalid container name" in done.stderr


def test_an_unavailable_image_is_125(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "--pull", "never", "no/such:image", check=False)
    assert done.returncode == 125
    assert "No such image" in done.stderr


def test_a_start_that_failed_leaves_the_container_created(engine: Engine) -> None:
    name = fresh("c")
    engine.docker("run", "-d", "--name", name, "busybox", "nosuchprogram", check=False)
    state = engine.state(name)
    assert (state["Status"], state["ExitCode"]) == ("created", 127)
    assert "nosuchprogram" in state["Error"]
    engine.docker("rm", name)


def test_create_then_start_then_wait(engine: Engine) -> None:
    name = fresh("c")
    made = engine.out("create", "--name", name, "busybox", "sh", "-c", "exit 4")
    assert re.fullmatch(r"[0-9a-f]{64}", made)
    assert engine.state(name)["Status"] == "created"
    assert engine.out("start", name) == name
    assert engine.out("wait", name) == "4"
    assert engine.state(name)["Status"] == "exited"


def test_start_attached_gives_output_and_exit_code(engine: Engine) -> None:
    name = fresh("c")
    engine.docker("create", "-i", "--name", name, "busybox", "sh", "-c", "cat; exit 6")
    done = engine.docker("start", "-ai", name, input="typed\n", check=False)
    assert (done.stdout, done.returncode) == ("typed\n", 6)


def test_stdin_of_run_is_delivered_with_its_end(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "-i", "busybox", "wc", "-c", input=b"x" * 300_000)
    assert done.stdout.strip() == "300000"


def test_a_name_can_be_used_once(engine: Engine) -> None:
    name = engine.sleeper()
    done = engine.docker("create", "--name", name, "busybox", check=False)
    assert done.returncode == 1
    assert "is already in use by container" in done.stderr


def test_containers_are_found_by_id_prefix_and_name(engine: Engine) -> None:
    name = engine.sleeper()
    whole = engine.inspect(name)["Id"]
    for ref in (whole, whole[:12], whole[:5], name, f"/{name}"):
        assert engine.inspect(ref)["Id"] == whole
    done = engine.docker("stop", "nosuch", check=False)
    assert "No such container: nosuch" in done.stderr


def test_stop_is_a_signal_then_a_kill(engine: Engine) -> None:
    loop = "echo ready; while :; do sleep 0.1; done"
    polite = engine.up("busybox", "sh", "-c", f"trap 'exit 5' TERM; {loop}")
    ignoring = engine.up("busybox", "sh", "-c", f"trap '' TERM; {loop}")
    for name in (polite, ignoring):
        engine.wait_for_output(name, "ready")
    engine.docker("stop", "-t", "60", polite)
    assert engine.state(polite)["ExitCode"] == 5
    begin = time.monotonic()
    engine.docker("stop", "-t", "1", ignoring)
    assert 0.9 < time.monotonic() - begin < 9  # and not the ten seconds of a stop without -t
    assert engine.state(ignoring)["ExitCode"] == 137


@pytest.mark.parametrize("action", ["kill", "stop", "restart"])
def test_a_signal_right_after_the_start_is_not_lost(engine: Engine, action: str) -> None:
    api = engine.client.api
    command = "trap 'touch /seen; exit 5' TERM; while :; do sleep 0.05; done"
    for _ in range(6):
        id = api.create_container("busybox", ["sh", "-c", command])["Id"]
        api.start(id)
        if action == "kill":
            api.kill(id, "TERM")
            assert api.wait(id, timeout=10)["StatusCode"] == 5
        elif action == "stop":
            api.stop(id, timeout=20)
            assert api.inspect_container(id)["State"]["ExitCode"] == 5
        else:
            api.restart(id, timeout=20)
            assert engine.out("exec", id, "ls", "/seen") == "/seen"
        api.remove_container(id, force=True)


def test_stop_uses_the_container_s_signal(engine: Engine) -> None:
    name = engine.up(
        "--stop-signal",
        "USR1",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 9' USR1; echo ready; while :; do sleep 0.1; done",
    )
    engine.wait_for_output(name, "ready")
    engine.docker("stop", "-t", "60", name)
    assert engine.state(name)["ExitCode"] == 9


def test_stopping_a_stopped_container_and_starting_a_running_one_is_fine(engine: Engine) -> None:
    name = engine.sleeper()
    engine.docker("start", name)
    engine.docker("stop", name)
    engine.docker("stop", name)


def test_kill_with_signals_by_name_and_number(engine: Engine) -> None:
    for signal, code in (("TERM", 143), ("SIGKILL", 137), ("2", 130)):
        name = engine.up("busybox", "sh", "-c", "sleep 1000")
        # Process 1 has no default action for signals: only a handler or SIGKILL ends it.
        engine.docker("exec", name, "true")
        engine.docker("kill", "-s", signal, name)
        if signal == "SIGKILL":
            engine.wait_for(name, "ExitCode", code)
        else:
            assert engine.state(name)["Running"]
    done = engine.docker("kill", "-s", "NOPE", name, check=False)
    assert done.returncode == 1
    assert "signal" in done.stderr.lower()


def test_killing_a_stopped_container_is_an_error(engine: Engine) -> None:
    name = engine.sleeper()
    engine.docker("kill", name)
    engine.wait_for(name, "Running", False)
    done = engine.docker("kill", name, check=False)
    assert done.returncode == 1
    assert "is not running" in done.stderr


def test_restart_is_another_process_with_the_same_files(engine: Engine) -> None:
    name = engine.sleeper()
    engine.docker("exec", name, "touch", "/mark")
    before = engine.state(name)
    engine.docker("restart", "-t", "0", name)
    after = engine.state(name)
    assert after["Running"]
    assert after["Pid"] != before["Pid"]
    assert after["StartedAt"] > before["StartedAt"]
    engine.docker("exec", name, "test", "-e", "/mark")


@netkit_only("it syncs the whole file system at the end of each run")
def test_what_goes_with_its_run_is_not_synced_to_disk(engine: Engine) -> None:
    for flags in ((), ("--rm",)):
        name = engine.sleeper(*flags)
        engine.docker("exec", name, "sh", "-c", "echo kept > /mark; sync")
        assert _is_volatile(engine, name) == bool(flags)
        engine.docker("restart", "-t", "0", name)
        assert engine.out("exec", name, "cat", "/mark") == "kept"
        assert _is_volatile(engine, name) == bool(flags)
        engine.docker("rm", "-f", name)


def test_a_container_with_rm_is_read_before_it_is_started(engine: Engine, tmp_path: Path) -> None:
    name = engine.out("create", "--rm", "busybox", "true")
    engine.docker("cp", f"{name}:/etc/passwd", str(tmp_path))
    engine.docker("cp", str(tmp_path / "passwd"), f"{name}:/mark")
    engine.docker("start", "-a", name)


def _is_volatile(engine: Engine, name: str) -> bool:
    place = str(engine.rundir / "rootfs" / engine.inspect(name)["Id"])
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    (mount,) = (line for line in mounts if line.split()[4] == place)
    return not {"volatile", "fsync=volatile"}.isdisjoint(mount.rpartition(" ")[2].split(","))


def test_pause_stops_time_and_unpause_goes_on(engine: Engine) -> None:
    name = engine.up(
        "busybox", "sh", "-c", "while :; do i=$((i+1)); echo $i > /new; mv /new /now; done"
    )
    time.sleep(0.3)
    engine.docker("pause", name)
    state = engine.state(name)
    assert (state["Status"], state["Paused"], state["Running"]) == ("paused", True, True)
    assert "(Paused)" in engine.out("ps", "--format", "{{.Status}}", "-f", f"name={name}")
    done = engine.docker("exec", name, "true", check=False)
    assert "is paused" in done.stderr
    engine.docker("unpause", name)
    first = engine.out("exec", name, "cat", "/now")
    assert first
    assert engine.out("exec", name, "cat", "/now") != first
    assert engine.docker("unpause", name, check=False).returncode == 1


def test_wait_prints_each_code_and_returns_when_the_last_has_ended(engine: Engine) -> None:
    names = [engine.up("busybox", "sh", "-c", f"sleep 0.{n}; exit {n}") for n in (1, 3)]
    assert engine.out("wait", *names).split() == ["1", "3"]


def test_rename_changes_the_name_and_frees_the_old_one(engine: Engine) -> None:
    old, new = engine.sleeper(), fresh("c")
    engine.docker("rename", old, new)
    assert engine.inspect(new)["Name"] == f"/{new}"
    assert engine.docker("inspect", old, check=False).returncode == 1
    engine.sleeper(name=old)
    assert engine.docker("rename", old, new, check=False).returncode == 1


def test_update_changes_limits_of_the_running_container(engine: Engine) -> None:
    name = engine.sleeper("-m", "64m")
    engine.docker(
        "update", "-m", "96m", "--memory-swap", "-1", "--cpus", "0.25", "--pids-limit", "33",
        "--restart", "on-failure:2", name,
    )  # fmt: skip
    config = engine.inspect(name)["HostConfig"]
    assert config["Memory"] == 96 << 20
    assert config["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    text = engine.out(
        "exec", name, "sh", "-c",
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max 2>/dev/null"
        " || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max",
    )  # fmt: skip
    assert text.split() == [str(96 << 20), "33"]


def test_rm_refuses_a_running_container_unless_forced(engine: Engine) -> None:
    name = engine.sleeper()
    done = engine.docker("rm", name, check=False)
    assert done.returncode == 1
    assert re.search("running container|container is running", done.stderr)
    assert engine.out("rm", "-f", name) == name
    assert engine.docker("inspect", name, check=False).returncode == 1


def test_rm_of_many_reports_each(engine: Engine) -> None:
    names = [engine.sleeper() for _ in range(3)]
    done = engine.docker("rm", "-f", *names, "nosuch", check=False)
    assert sorted(done.stdout.split()) == sorted(names)
    if engine.kind == "netkitd":
        assert "nosuch" in done.stderr


def test_rm_option_removes_the_container_when_it_ends(engine: Engine) -> None:
    name = engine.up("--rm", "busybox", "sleep", "0.2")
    deadline = time.monotonic() + 60
    while engine.docker("inspect", name, check=False).returncode == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_prune_removes_what_is_stopped_and_only_that(engine: Engine) -> None:
    running, ended = engine.sleeper(), engine.sleeper("-l", "x=1")
    kept = engine.sleeper()
    engine.docker("kill", ended, kept)
    engine.wait_for(ended, "Running", False)
    engine.wait_for(kept, "Running", False)
    ended_id = engine.inspect(ended)["Id"]
    assert ended_id in engine.out("container", "prune", "-f", "--filter", "label=x=1")
    names = engine.out("ps", "-a", "--format", "{{.Names}}").split()
    assert sorted(names) == sorted([running, kept])


def test_restart_on_failure_counts_and_gives_up(engine: Engine) -> None:
    name = engine.up("--restart", "on-failure:2", "busybox", "sh", "-c", "echo run; exit 7")
    engine.wait_for(name, "Status", "exited", within=60)
    assert engine.inspect(name)["RestartCount"] == 2
    assert engine.state(name)["ExitCode"] == 7
    assert engine.out("logs", name).split() == ["run"] * 3


def test_restart_on_failure_leaves_success_alone(engine: Engine) -> None:
    name = engine.up("--restart", "on-failure", "busybox", "true")
    engine.wait_for(name, "Status", "exited")
    time.sleep(0.5)
    assert engine.inspect(name)["RestartCount"] == 0


def test_restart_always_starts_again_until_stopped(engine: Engine) -> None:
    name = engine.up("--restart", "always", "busybox", "sleep", "0.3")
    deadline = time.monotonic() + 60
    while engine.inspect(name)["RestartCount"] < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    engine.docker("stop", "-t", "1", name)
    time.sleep(1)
    assert engine.state(name)["Status"] == "exited"


def test_health_goes_from_starting_to_healthy_to_unhealthy(engine: Engine) -> None:
    name = engine.sleeper(
        "--health-cmd", "echo checked; test ! -e /sick", "--health-interval", "500ms",
        "--health-retries", "2", "--health-timeout", "2s",
    )  # fmt: skip
    assert engine.state(name)["Health"]["Status"] == "starting"
    engine.wait_for(name, "Health.Status", "healthy")
    last = engine.state(name)["Health"]["Log"][-1]
    assert (last["ExitCode"], last["Output"]) == (0, "checked\n")
    assert "(healthy)" in engine.out("ps", "--format", "{{.Status}}")
    engine.docker("exec", name, "touch", "/sick")
    engine.wait_for(name, "Health.Status", "unhealthy")
    assert engine.state(name)["Health"]["FailingStreak"] >= 2


def test_a_health_check_that_hangs_is_a_failure(engine: Engine) -> None:
    name = engine.sleeper(
        "--health-cmd", "sleep 1000", "--health-interval", "300ms", "--health-timeout", "400ms",
        "--health-retries", "1",
    )  # fmt: skip
    engine.wait_for(name, "Health.Status", "unhealthy")
    assert "exceeded timeout" in engine.state(name)["Health"]["Log"][-1]["Output"]


def test_no_healthcheck(engine: Engine) -> None:
    image = fresh("img")
    engine.load_image(image, changes=["HEALTHCHECK --interval=1s CMD true"])
    name = engine.up("--no-healthcheck", image, "sleep", "100")
    assert "Health" not in engine.state(name) or engine.state(name)["Health"]["Status"] == "none"


def test_inspect_formats_and_sizes(engine: Engine) -> None:
    name = engine.sleeper()
    assert engine.out("inspect", "-f", "{{.State.Running}} {{.Name}}", name) == f"true /{name}"
    sized = json.loads(engine.out("inspect", "-s", name))[0]
    assert sized["SizeRootFs"] > 1_000_000
    assert sized["SizeRw"] >= 0
    for key in ("Id", "Created", "Path", "Args", "State", "Image", "LogPath", "Name", "HostConfig",
                "GraphDriver", "Mounts", "Config", "NetworkSettings", "ResolvConfPath",
                "HostnamePath", "HostsPath", "Driver", "Platform"):  # fmt: skip
        assert key in sized, key
    assert (sized["Path"], sized["Args"]) == ("sleep", ["100000"])


def test_inspect_names_what_it_cannot_find(engine: Engine) -> None:
    done = engine.docker("inspect", "nosuch", check=False)
    assert (done.returncode, done.stdout.strip()) == (1, "[]")
    assert "nosuch" in done.stderr


def test_signals_to_a_foreground_run_reach_the_process(engine: Engine, folder: Path) -> None:
    cid = folder / "cid"
    run = subprocess.Popen(
        [DOCKER, "-H", engine.host, "run", "--rm", "--cidfile", str(cid), "busybox", "sh", "-c",
         "trap 'echo got it; exit 12' TERM; echo ready; while :; do sleep 0.1; done"],
        stdout=subprocess.PIPE, text=True, env=engine.cli_environment(),
    )  # fmt: skip
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        run.terminate()
        assert run.stdout.read() == "got it\n"
        assert run.wait(10) == 12
    finally:
        run.kill()
        run.wait()
        assert run.stdout is not None
        run.stdout.close()
