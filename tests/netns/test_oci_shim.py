"""Real runc under real conmon: life, limits, ends, and another daemon on the same folder."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.errors import InvalidSpec
from runtime.container.config import HostConfig
from runtime.oci import binaries, stats
from runtime.oci.errors import BadCommand, StartFailed
from runtime.oci.process import Process
from tests.netns.oci_box import ID as C
from tests.netns.oci_box import Box, opened

pytestmark = pytest.mark.root


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with opened(tmp_path) as box:
        yield box


def test_a_container_lives_ends_and_leaves_nothing(box: Box) -> None:
    init = box.create(C, ["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert init.alive
    assert not box.output(C), "the command must not run before start"
    box.shim.start(C)
    status = box.exit(C)
    assert (status.code, status.oom) == (7, False)
    assert abs(status.finished_ns / 1e9 - time.time()) < 10
    assert sorted(box.output(C).split()) == ["err", "out"]
    box.shim.delete(C)
    assert box.shim.leftovers() == set()
    assert box.groups() == []
    assert box.shim.exit_status(C) is None
    box.shim.delete(C)  # nothing to do is no error


def test_a_daemon_with_thousands_of_descriptors_starts_and_ends_containers(box: Box) -> None:
    """Every published port is one; select(2) knows none above 1023."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], min(4096, before[1])), before[1]))
    held = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(1100)]
    try:
        box.run(C, ["true"])
        assert box.exit(C).code == 0
        box.shim.delete(C)
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_signal_is_128_and_its_number(box: Box) -> None:
    box.run(C, ["sleep", "100"])
    assert box.shim.signal(C, signal.SIGKILL)
    assert box.exit(C).code == 137
    assert not box.shim.signal(C, signal.SIGTERM)


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("nosuch", 127, 'exec: "nosuch": executable file not found in $PATH: unknown'),
        ("/etc/nosuch", 127, "no such file or directory"),
        ("/etc/script", 126, "permission denied"),
        ("/bin", 126, ""),
    ],
)
def test_a_command_that_cannot_run_is_reported_in_docker_s_words(
    box: Box, command: str, code: int, words: str
) -> None:
    with pytest.raises(BadCommand, match="OCI runtime create failed: ") as caught:
        box.create(C, [command])
    assert caught.value.exit_code == code
    assert words in str(caught.value)
    box.shim.delete(C)
    assert box.groups() == []


def test_another_failure_is_no_bad_command(box: Box) -> None:
    document = box.document(C, ["true"])
    document["root"]["path"] = "/nonexistent"
    box.begin(C)
    with pytest.raises(StartFailed, match="nonexistent") as caught:
        box.shim.create(C, document)
    assert not isinstance(caught.value, BadCommand)


def test_what_fails_while_the_runtime_works_is_raised_after_it(box: Box) -> None:
    def fail() -> None:
        raise OSError("no links")

    document = box.document(C, ["sleep", "100"])
    box.begin(C)
    with pytest.raises(OSError, match="no links"):
        box.shim.create(C, document, fail)
    running = box.shim.running(C)
    assert running is not None
    assert running.init.alive
    box.shim.delete(C)
    assert not running.init.alive
    assert box.groups() == []
    assert not box.shim.remains(C)


def test_nothing_is_made_by_a_conmon_whose_daemon_was_killed_before(box: Box) -> None:
    """At the end of file it goes on; its runtime finds no configuration."""
    program = (
        "import sys, os, signal; from pathlib import Path\n"
        "from runtime.oci.cgroups import Cgroups; from runtime.oci.shim import Shim\n"
        "shim = Shim(Path(sys.argv[1]), Cgroups.probe())\n"
        "shim.begin(sys.argv[2], log=None, terminal=False, stdin=False, leave_stdin_open=False)\n"
        "print(shim._begun[sys.argv[2]]._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(box.folder / "run"), C],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    ) as daemon:  # fmt: skip
        assert daemon.stdout is not None
        waiting = int(daemon.stdout.readline())
    assert daemon.returncode == -signal.SIGKILL
    until = time.monotonic() + 60
    while not (box.shim.bundle(C) / "attach").exists():
        assert time.monotonic() < until, "it did not go on"
        time.sleep(0.05)
    # It forks and exits: while /proc is read it may be in none of what is read.
    while Process.of(waiting) or any(box.shim._creating_processes(C) for _ in range(2)):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert not list(box.shim.state.iterdir())
    assert box.groups() == []
    box.shim.abort(C)
    assert box.shim.leftovers() == set()


def test_a_start_that_is_withdrawn_leaves_nothing(box: Box) -> None:
    before = set(os.listdir("/proc/self/fd"))
    box.begin(C)
    monitor = box.shim._begun[C]._process.pid
    assert Process.of(monitor) is not None
    box.shim.withdraw(C)
    assert Process.of(monitor) is None
    assert box.shim.leftovers() == set()
    assert set(os.listdir("/proc/self/fd")) == before
    box.shim.withdraw(C)  # nothing to do is no error


def test_a_configuration_that_cannot_be_written_starts_nothing(box: Box) -> None:
    box.begin(C)
    monitor = box.shim._begun[C]._process.pid
    with pytest.raises(TypeError):
        box.shim.create(C, {"linux": object()})
    assert Process.of(monitor) is None
    assert not box.shim._creating_processes(C)
    assert not (box.shim.bundle(C) / "attach").exists(), "it went on"


def test_conmon_waits_until_all_is_prepared(box: Box) -> None:
    box.begin(C)
    monitor = box.shim._begun[C]._process.pid
    ahead = box.shim._begun[C]._ahead
    assert ahead is not None
    ahead.join()
    children = Path(f"/proc/{monitor}/task/{monitor}/children")
    assert children.read_text() == "", "it must have started nothing"
    assert not (box.shim.bundle(C) / "config.json").exists()
    assert box.shim.create(C, box.document(C, ["true"])).alive


def test_another_daemon_finds_what_lives_and_only_that(box: Box) -> None:
    init = box.run("lives", ["sleep", "100"])
    box.run("ended", ["true"])
    box.exit("ended")
    other = box.reopened()
    found = other.running("lives")
    assert found is not None
    assert (found.init, other.alive("ended")) == (init, False)
    assert [other.remains(id) for id in ("lives", "ended", "none")] == [True, True, False]
    assert other.leftovers() == {"lives", "ended"}
    assert other.signal("lives", signal.SIGKILL)
    assert box.exit("lives").code == 137


def test_containers_outlive_a_killed_daemon(box: Box) -> None:
    """The daemon here is a process of its own, killed right after it started a container."""
    program = (
        "import sys, json, os, signal; from pathlib import Path\n"
        "from runtime.oci.cgroups import Cgroups; from runtime.oci.shim import Shim\n"
        "run, document, log, id = sys.argv[1:]\n"
        "shim = Shim(Path(run), Cgroups.probe())\n"
        "shim.begin(id, log=Path(log), terminal=False, stdin=False, leave_stdin_open=False)\n"
        "shim.create(id, json.loads(document))\n"
        "shim.start(id); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    import json

    document = json.dumps(box.document(C, ["sh", "-c", "sleep 0.5; echo later; exit 4"]))
    done = subprocess.run(
        [sys.executable, "-c", program, str(box.folder / "run"), document, str(box.log(C)), C],
        timeout=30,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == -signal.SIGKILL
    assert box.shim.alive(C)
    assert box.exit(C).code == 4
    assert box.output(C) == "later"


def test_a_recycled_pid_is_not_taken_for_the_container(box: Box) -> None:
    box.run(C, ["true"])
    box.exit(C)
    (box.shim.bundle(C) / "process.json").unlink()
    (box.shim.bundle(C) / "pid").write_text(str(os.getpid()))
    assert box.reopened().running(C) is None
    assert not Process(os.getpid(), 1).alive
    assert not Process(os.getpid(), 1).signal(0)


def test_a_container_of_which_no_note_was_made_is_found(box: Box) -> None:
    init = box.run(C, ["sleep", "100"])
    (box.shim.bundle(C) / "process.json").unlink()
    found = box.reopened().running(C)
    assert found is not None
    assert found.init == init
    assert found.monitor is not None
    (box.shim.bundle(C) / "process.json").write_text('{"init": 7}')  # a damaged disk
    assert box.reopened().running(C) == found


def test_pause_and_resume(box: Box) -> None:
    box.run(C, ["sh", "-c", "while :; do echo x; sleep 0.02; done"])
    assert not box.shim.paused(C)
    box.shim.pause(C)
    assert box.shim.paused(C)
    until, before = time.monotonic() + 60, -1
    while (size := box.log(C).stat().st_size) != before:  # conmon may have some of it still
        assert time.monotonic() < until
        before = size
        time.sleep(0.5)
    box.shim.resume(C)
    while box.log(C).stat().st_size == before:
        assert time.monotonic() < until
        time.sleep(0.01)
    box.shim.pause(C)
    box.shim.delete(C)  # a paused one can be removed
    assert box.groups() == []


def test_limits_are_set_and_changed(box: Box) -> None:
    box.run(C, ["sleep", "100"], HostConfig(memory=32 << 20, pids_limit=20))
    box.shim.update(C, {"pids": {"limit": 40}})
    figures = stats.sample(box.cgroups, f"/{box.name}/{C}", os.getpid(), network=False)
    assert figures["pids_stats"] == {"current": 1, "limit": 40}
    assert figures["memory_stats"]["limit"] == 32 << 20
    assert figures["memory_stats"]["usage"] > 0
    assert figures["cpu_stats"]["cpu_usage"]["total_usage"] > 0


def test_the_processes_of_a_container_are_those_of_its_group(box: Box) -> None:
    init = box.run(C, ["sh", "-c", "sleep 100 & wait"])
    until = time.monotonic() + 60
    while len(pids := box.shim.processes(C)) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert init.pid in pids
    assert len(pids) == 2


def test_what_outlives_the_first_process_is_ended_by_delete(box: Box) -> None:
    box.run(C, ["sh", "-c", "sleep 100 >/dev/null 2>&1 & exit 0"], pid="host")
    box.exit(C)
    left = [p for pid in box.shim.processes(C) if (p := Process.of(pid))]
    assert left
    box.shim.delete(C)
    assert all(_ended(p) for p in left)
    assert box.groups() == []


def _ended(process: Process) -> bool:
    until = time.monotonic() + 60
    while process.alive and time.monotonic() < until:
        time.sleep(0.01)
    return not process.alive


def test_the_memory_killer_is_reported(box: Box) -> None:
    hungry = ["sh", "-c", "x=$(yes | head -c 200000000); echo $x"]
    box.run(C, hungry, HostConfig(memory=16 << 20, memory_swap=16 << 20))
    status = box.exit(C, 30)
    assert status.code == 137
    assert status.oom


def test_what_the_monitor_writes_is_in_the_containers_own_folder(box: Box) -> None:
    box.run(C, ["sleep", "100"])
    running = box.shim.running(C)
    assert running is not None
    assert running.monitor is not None
    # conmon notes an OOM kill in its working directory, too
    assert os.readlink(f"/proc/{running.monitor.pid}/cwd") == str(box.shim.bundle(C))


def test_the_profile_holds_in_the_container(box: Box) -> None:
    script = (
        "cat /proc/self/status; touch /proc/sys/kernel/x; ls /proc/kcore | head -c 0;"
        "cat /proc/keys | head -c 5; echo; echo 1 > /sys/kernel/x; ls /dev"
    )
    box.run(C, ["sh", "-c", script])
    box.exit(C)
    text = box.output(C)
    assert re.search(r"CapEff:\s+00000000a80425fb", text)
    assert re.search(r"CapInh:\s+0+$", text, re.M)
    assert re.search(r"Seccomp:\s+2", text)
    assert "Read-only file system" in text
    devices = set(text.split())
    assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx"} <= devices
    assert not {"sda", "vda", "kmsg", "mem"} & devices


def test_no_descriptor_of_the_daemon_reaches_the_container(box: Box) -> None:
    """CVE-2024-21626: an allow-list, with a descriptor open here that could leak."""
    with open("/etc/passwd", "rb") as file:
        os.set_inheritable(file.fileno(), True)
        box.run(C, ["sleep", "100"])
    init = box.shim.running(C)
    assert init
    until = time.monotonic() + 60
    # start returns when the command may run: the runtime's own descriptors close on its exec
    while Path(f"/proc/{init.init.pid}/comm").read_text() != "sleep\n":
        assert time.monotonic() < until
        time.sleep(0.01)
    folder = Path(f"/proc/{init.init.pid}/fd")
    assert sorted(int(p.name) for p in folder.iterdir()) == [0, 1, 2]
    assert "passwd" not in " ".join(os.readlink(p) for p in folder.iterdir())


def test_a_log_is_rotated_by_renaming_and_reopening(box: Box) -> None:
    box.run(C, ["sh", "-c", "echo one; until [ -e /go ]; do sleep 0.05; done; echo two"])
    until = time.monotonic() + 60
    while "one" not in box.log(C).read_text():
        assert time.monotonic() < until
        time.sleep(0.01)
    old = box.log(C).with_name(f"{C}.log.1")
    box.log(C).rename(old)
    box.shim.reopen_log(C)
    (box.root / "go").touch()
    box.exit(C)
    assert old.read_text().split()[-1] == "one"
    assert box.output(C) == "two"


def test_a_folder_with_a_long_path_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 60)
    deep.mkdir(parents=True)
    with opened(deep) as box:
        box.run("f" * 64, ["echo", "deep"])
        assert box.exit("f" * 64).code == 0
        assert box.output("f" * 64) == "deep"


def test_a_runtime_that_is_not_there_is_refused(box: Box) -> None:
    with pytest.raises(InvalidSpec, match="no such program"):
        binaries.runtime("/nonexistent/runc", box.cgroups)
    with pytest.raises(InvalidSpec, match="not installed"):
        binaries.runtime("nosuchruntime", box.cgroups)
    assert os.access(binaries.runtime("auto", box.cgroups), os.X_OK)


def test_starting_what_has_died_fails_at_once(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.oci.shim.RUN_SECONDS", 60.0)
    init = box.create(C, ["sleep", "100"])
    init.signal(signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(StartFailed, match="before its command ran"):
        box.shim.start(C)
    assert time.monotonic() - began < 30
