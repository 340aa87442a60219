"""The stock docker CLI and docker-py against the API over the fake engine.  Needs no root."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from netkit.testing.waiting import readable
from tests.unit.runtime.api.api_server import ApiServer

CLI = shutil.which("docker")
pytestmark = pytest.mark.skipif(CLI is None, reason="needs the docker CLI")

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(tmp_path_factory.mktemp("api")) as server:
        yield server


@pytest.fixture(autouse=True)
def _clean(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    api: ApiServer = request.getfixturevalue("api")
    for c in api.engine.containers.all():
        api.engine.containers.remove(c.id, force=True, volumes=True, link=False)


def environment(api: ApiServer) -> dict[str, str]:
    config = api.path.parent / "config"
    return {**os.environ, "DOCKER_HOST": api.host, "DOCKER_CONFIG": str(config),
            "DOCKER_BUILDKIT": "0"}  # fmt: skip


def cli(api: ApiServer, *args: str, stdin: str | None = None, timeout: float = 30) -> Done:
    given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    return subprocess.run(
        [CLI or "docker", *args], capture_output=True, text=True, timeout=timeout,
        env=environment(api), **given,  # type: ignore[call-overload]
    )  # fmt: skip


def out(api: ApiServer, *args: str, stdin: str | None = None) -> str:
    """Standard output of a command that must succeed."""
    done = cli(api, *args, stdin=stdin)
    assert done.returncode == 0, (args, done.stdout, done.stderr)
    return done.stdout.strip()


def test_version_and_info_show_the_engine(api: ApiServer) -> None:
    shown = json.loads(out(api, "version", "--format", "{{json .Server}}"))
    assert (shown["ApiVersion"], shown["MinAPIVersion"]) == ("1.51", "1.22")
    assert "linux/amd64" in out(api, "version")
    info = out(api, "info")
    assert "Name: fakehost" in info
    assert "Swarm: inactive" in info


def test_an_old_client_is_answered_in_its_version(api: ApiServer) -> None:
    done = subprocess.run(
        [CLI or "docker", "images", "--format", "{{.Repository}}"], capture_output=True, text=True,
        env={**environment(api), "DOCKER_API_VERSION": "1.24"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "busybox\n")


def test_run_d_then_ps_with_filters_and_format(api: ApiServer) -> None:
    id = out(api, "run", "-d", "--name", "web", "-p", "8080:80", "-l", "a=b", "busybox",
             "sleep", "60")  # fmt: skip
    assert re.fullmatch("[0-9a-f]{64}", id)
    out(api, "create", "--name", "idle", "busybox", "true")
    shown = out(api, "ps", "--format", "{{.Names}} {{.Image}} {{.Command}} {{.Ports}} {{.State}}")
    assert shown == 'web busybox "sleep 60" 0.0.0.0:8080->80/tcp running'
    assert out(api, "ps", "-aq", "--no-trunc", "-f", "label=a=b") == id
    assert out(api, "ps", "-a", "-f", "status=created", "--format", "{{.Status}}") == "Created"
    assert out(api, "ps", "-a", "-f", "name=^web$", "--format", "{{.Status}}").startswith("Up ")
    assert out(api, "ps", "-n", "1", "--format", "{{.Names}}") == "idle"
    assert out(api, "ps", "-as", "-f", "name=web", "--format", "{{.Size}}").startswith("0B")
    assert out(api, "port", "web") == "80/tcp -> 0.0.0.0:8080"
    failed = cli(api, "ps", "-f", "nosuch=1")
    assert (failed.returncode, failed.stderr.strip()) == (
        1, "Error response from daemon: Invalid filter 'nosuch'",
    )  # fmt: skip


def test_run_i_delivers_stdin_its_end_both_streams_and_the_exit_code(api: ApiServer) -> None:
    done = cli(api, "run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo oops >&2; exit 7",
               stdin="hello\n")  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (7, "hello\n", "oops\n")
    assert api.engine.containers.all() == []


def test_a_process_that_ends_before_its_input_is_read_is_no_error(api: ApiServer) -> None:
    done = cli(api, "run", "-i", "--rm", "busybox", "head", "-c", "3", stdin="x" * 3_000_000)
    assert (done.returncode, done.stdout) == (0, "xxx")


def test_what_cannot_run_gives_docker_s_exit_codes(api: ApiServer) -> None:
    missing = cli(api, "run", "--rm", "nothere", "true")
    assert missing.returncode == 125
    assert "manifest unknown" in missing.stderr
    program = cli(api, "run", "--rm", "busybox", "nosuchprogram")
    assert program.returncode == 127
    assert "executable file not found" in program.stderr
    assert api.engine.containers.all() == []


class Terminal:
    """A command of the CLI on a terminal of its own."""

    def __init__(self, api: ApiServer, *args: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(CLI or "docker", ["docker", *args], environment(api))
        self.seen = ""

    def expect(self, text: str, seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0, f"{text!r} did not come: {self.seen!r}"
            if readable(self.fd, left):
                try:
                    self.seen += os.read(self.fd, 4096).decode(errors="replace")
                except OSError:
                    assert text in self.seen, f"{text!r} did not come: {self.seen!r}"

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait(self) -> int:
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return status


def test_run_it_on_a_terminal_takes_input_and_its_exit_code(api: ApiServer) -> None:
    terminal = Terminal(api, "run", "-it", "--rm", "busybox", "sh", "-c",
                        "tty && read x && echo got-$x && exit 4")  # fmt: skip
    terminal.expect("/dev/pts/")
    terminal.type("word\r")
    terminal.expect("got-word")
    assert terminal.wait() == 4


def test_detach_keys_leave_the_container_running_and_attach_comes_back(api: ApiServer) -> None:
    terminal = Terminal(api, "run", "-it", "--name", "t", "busybox", "sh", "-c",
                        "echo ready; read x; echo got-$x; exit 5")  # fmt: skip
    terminal.expect("ready")
    terminal.type("\x10\x11")
    assert terminal.wait() == 0
    assert out(api, "inspect", "-f", "{{.State.Status}}", "t") == "running"
    again = Terminal(api, "attach", "t")
    time.sleep(0.3)
    again.type("more\r")
    again.expect("got-more")
    assert again.wait() == 5


def test_start_a_of_a_stopped_container_shows_its_output(api: ApiServer) -> None:
    out(api, "create", "--name", "s", "busybox", "sh", "-c", "echo once; exit 3")
    done = cli(api, "start", "-a", "s")
    assert (done.returncode, done.stdout) == (3, "once\n")


def test_logs_and_their_options(api: ApiServer) -> None:
    out(api, "run", "--name", "l", "busybox", "sh", "-c", "echo one; echo two >&2")
    done = cli(api, "logs", "l")
    assert (done.stdout, done.stderr) == ("one\n", "two\n")
    assert out(api, "logs", "-n", "0", "l") == ""
    assert re.match(r"\d{4}-\d\d-\d\dT.*Z one$", out(api, "logs", "-t", "l"))


def test_logs_f_follows_until_the_container_ends(api: ApiServer) -> None:
    out(api, "run", "-d", "--name", "f", "busybox", "sh", "-c",
        "echo a; sleep 0.7; echo b; sleep 0.2")  # fmt: skip
    assert out(api, "logs", "-f", "f") == "a\nb"


def test_exec_in_all_its_forms(api: ApiServer) -> None:
    out(api, "run", "-d", "--name", "e", "busybox", "sleep", "60")
    done = cli(api, "exec", "-i", "e", "sh", "-c", "cat; echo x >&2; exit 9", stdin="in")
    assert (done.returncode, done.stdout, done.stderr) == (9, "in", "x\n")
    assert out(api, "exec", "-e", "K=v", "e", "sh", "-c", "echo $K") == "v"
    assert cli(api, "exec", "-d", "e", "true").returncode == 0
    missing = cli(api, "exec", "e", "nosuchprogram")
    assert missing.returncode == 127
    assert "executable file not found" in missing.stdout
    terminal = Terminal(api, "exec", "-it", "e", "sh", "-c", "tty; read x; exit 6")
    terminal.expect("/dev/pts/")
    terminal.type("\r")
    assert terminal.wait() == 6


def test_wait_stop_kill_pause_rename_update_restart(api: ApiServer) -> None:
    out(api, "run", "-d", "--name", "c", "busybox", "sleep", "60")
    waiting = subprocess.Popen([CLI or "docker", "wait", "c"], env=environment(api),
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    time.sleep(0.3)
    out(api, "pause", "c")
    assert "(Paused)" in out(api, "ps", "--format", "{{.Status}}")
    out(api, "unpause", "c")
    out(api, "rename", "c", "d")
    out(api, "update", "-m", "64m", "--memory-swap", "-1", "d")
    assert api.engine.containers.updates[-1].given == ["Memory", "MemorySwap"]
    out(api, "kill", "-s", "KILL", "d")
    assert waiting.communicate(timeout=60)[0] == "137\n"
    out(api, "start", "d")
    out(api, "start", "d")  # 304
    out(api, "restart", "-t", "5", "d")
    out(api, "stop", "d")
    out(api, "stop", "d")  # 304
    refused = cli(api, "kill", "d")
    assert "is not running" in refused.stderr
    assert out(api, "rm", "d") == "d"


def test_cp_in_and_out_diff_and_export(api: ApiServer, tmp_path: Path) -> None:
    id = out(api, "create", "--name", "x", "busybox", "true")
    (tmp_path / "file").write_text("content")
    out(api, "cp", str(tmp_path / "file"), "x:/copied")
    assert (api.engine.root / id / "copied").read_text() == "content"
    out(api, "cp", "x:/copied", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "content"
    assert out(api, "diff", "x") == "A /copied"
    out(api, "export", "-o", str(tmp_path / "all.tar"), "x")
    with tarfile.open(tmp_path / "all.tar") as exported:
        assert "./copied" in exported.getnames()
    failed = cli(api, "cp", "x:/nothere", str(tmp_path))
    assert "Could not find the file /nothere in container x" in failed.stderr


def test_top_and_stats(api: ApiServer) -> None:
    out(api, "run", "-d", "--name", "p", "busybox", "sleep", "60")
    assert "sleep 60" in out(api, "top", "p")
    shown = out(api, "stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.MemUsage}}")
    assert shown == "p 20.00% 1MiB / 1GiB"


def test_events_are_streamed_and_replayed(api: ApiServer) -> None:
    begun = time.time()
    stream = subprocess.Popen(
        [CLI or "docker", "events", "--format", "{{.Action}}", "--filter", "type=container"],
        stdout=subprocess.PIPE, text=True, env=environment(api),
    )  # fmt: skip
    end = time.monotonic() + 60
    while not api.engine.events._news:
        assert time.monotonic() < end
        time.sleep(0.05)
    out(api, "run", "--rm", "busybox", "true")
    assert stream.stdout is not None
    seen = [stream.stdout.readline().strip() for _ in range(5)]
    stream.terminate()
    stream.communicate()
    assert seen == ["create", "attach", "start", "die", "destroy"]
    again = out(api, "events", "--since", str(begun), "--until", str(time.time()), "--format",
                "{{.Action}}", "-f", "type=container")  # fmt: skip
    assert again.split() == seen


def test_networks(api: ApiServer) -> None:
    assert out(api, "network", "ls", "--format", "{{.Name}}").split() == ["bridge", "host", "none"]
    id = out(api, "network", "create", "--subnet", "10.9.0.0/24", "--gateway", "10.9.0.1",
             "--ip-range", "10.9.0.128/25", "--aux-address", "nas=10.9.0.5", "--internal",
             "--label", "k=v", "-o", "com.docker.network.bridge.name=br9", "nine")  # fmt: skip
    shown = json.loads(out(api, "network", "inspect", "nine"))[0]
    assert shown["IPAM"]["Config"] == [
        {"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.1", "IPRange": "10.9.0.128/25",
         "AuxiliaryAddresses": {"nas": "10.9.0.5"}}
    ]  # fmt: skip
    assert (shown["Internal"], shown["Labels"]) == (True, {"k": "v"})
    assert shown["Options"] == {"com.docker.network.bridge.name": "br9"}
    cid = out(api, "run", "-d", "--name", "n", "busybox", "sleep", "60")
    out(api, "network", "connect", "--ip", "10.9.0.9", "--alias", "al", "nine", "n")
    member = json.loads(out(api, "network", "inspect", "nine"))[0]["Containers"][cid]
    assert (member["Name"], member["IPv4Address"]) == ("n", "10.9.0.9/24")
    assert out(api, "ps", "-q", "--no-trunc", "-f", "network=nine") == cid
    settings = json.loads(out(api, "inspect", "-f", "{{json .NetworkSettings}}", "n"))
    assert settings["Networks"]["nine"]["Aliases"] == ["al"]
    assert settings["IPAddress"] == "172.17.0.2"
    busy = cli(api, "network", "rm", "nine")
    assert "has active endpoints" in busy.stderr
    out(api, "network", "disconnect", "nine", "n")
    assert out(api, "network", "rm", "nine") == "nine"
    out(api, "network", "create", "ten")
    assert "ten" in out(api, "network", "prune", "-f")
    assert cli(api, "network", "inspect", id).returncode == 1
    assert "pre-defined" in cli(api, "network", "rm", "bridge").stderr


def test_images_in_all_commands(api: ApiServer, tmp_path: Path) -> None:
    assert out(api, "images", "--format", "{{.Repository}}:{{.Tag}}") == "busybox:latest"
    out(api, "tag", "busybox", "other/name:1")
    assert "other/name:1" in out(api, "image", "inspect", "-f", "{{.RepoTags}}", "other/name:1")
    assert "import" in out(api, "history", "other/name:1")
    out(api, "save", "-o", str(tmp_path / "i.tar"), "busybox")
    assert out(api, "load", "-i", str(tmp_path / "i.tar")) == "Loaded image: busybox:latest"
    assert "Untagged: other/name:1" in out(api, "rmi", "other/name:1")
    (tmp_path / "root.tar").write_bytes(b"\0" * 5_000_000)
    id = out(api, "import", str(tmp_path / "root.tar"), "made:2")
    assert re.fullmatch("sha256:[0-9a-f]{64}", id)
    assert api.engine.images.received == 5_000_000
    assert f"Deleted: {id}" in out(api, "rmi", "made:2")
    assert "No such image" in cli(api, "rmi", "made:2").stderr
    bad = cli(api, "load", stdin="nonsense")
    assert bad.returncode == 1
    assert "not an image archive" in bad.stderr


def test_system_df_and_prune(api: ApiServer) -> None:
    out(api, "run", "--name", "gone", "busybox", "true")
    assert "Containers" in out(api, "system", "df")
    assert "Deleted Containers" in out(api, "system", "prune", "-f")
    assert api.engine.containers.all() == []


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("swarm", "leave"), "not a swarm manager"),
        (("service", "ls"), "not a swarm manager"),
        (("volume", "create", "-d", "nosuch", "v"), 'plugin "nosuch" not found'),
        (("volume", "inspect", "v"), "no such volume"),
        (("pull", "x"), "manifest unknown"),
        (("push", "absent"), "does not exist locally"),
        (("commit", "x"), "No such container: x"),
        (("inspect", "nothing"), "No such object: nothing"),
        (("run", "--platform", "linux/s390x", "busybox"), "not available"),
    ],
)
def test_what_is_absent_is_reported(api: ApiServer, args: tuple[str, ...], text: str) -> None:
    done = cli(api, *args)
    assert done.returncode != 0
    assert text.lower() in done.stderr.lower()


def test_a_build_that_fails_exits_with_the_steps_status(api: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\n")
    (tmp_path / "big").write_bytes(os.urandom(1 << 20))
    done = cli(api, "build", str(tmp_path))
    assert done.returncode == 7
    assert "returned a non-zero code: 7" in done.stderr


def test_rm_of_many_at_once(api: ApiServer) -> None:
    names = [f"m{n}" for n in range(40)]
    for name in names:
        api.json("POST", f"/containers/create?name={name}", {"Image": "busybox"})
    assert sorted(out(api, "rm", "-f", *names).split()) == sorted(names)


def test_200_mb_through_attach_both_ways_arrive_whole(api: ApiServer) -> None:
    size = 64 << 20
    data = os.urandom(1 << 20) * (size >> 20)
    done = subprocess.run(
        [CLI or "docker", "run", "-i", "--rm", "busybox", "cat"], input=data, capture_output=True,
        env=environment(api), timeout=60,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout == data


def test_docker_py_in_short(api: ApiServer) -> None:
    client = docker.DockerClient(base_url=api.host, version="auto")
    assert client.ping()
    assert client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"
    c = client.containers.run("busybox", ["sleep", "60"], detach=True, name="py", labels={"a": "b"},
                              ports={"80/tcp": 8081})  # fmt: skip
    c.reload()
    assert (c.status, c.labels) == ("running", {"a": "b"})
    assert c.ports == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8081"}]}
    assert c.exec_run(["sh", "-c", "echo o; echo e >&2; exit 2"], demux=True) == (
        2, (b"o\n", b"e\n"),
    )  # fmt: skip
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("f")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    assert c.put_archive("/", buffer.getvalue())
    chunks, stat = c.get_archive("/f")
    assert (stat["name"], stat["size"]) == ("f", 3)
    assert b"abc" in b"".join(chunks)
    assert c.stats(stream=False)["precpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert [x.name for x in client.containers.list(filters={"label": "a=b"})] == ["py"]
    net = client.networks.create("pynet", driver="bridge", labels={"x": "y"})
    net.connect(c, aliases=["z"])
    net.reload()
    assert [x.name for x in net.containers] == ["py"]
    net.disconnect(c)
    net.remove()
    c.stop(timeout=1)
    assert c.wait()["StatusCode"] == 143
    c.remove()
    assert [i.tags for i in client.images.list()] == [["busybox:latest"]]
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("nothere")
    sock_seen = []
    c = client.containers.create("busybox", ["cat"], stdin_open=True)
    sock = c.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    c.start()
    sock._sock.sendall(b"ping\n")
    sock_seen.append(sock.read(13))
    sock.close()
    assert sock_seen == [b"\x01\0\0\0\0\0\0\x05ping\n"]
    c.remove(force=True)
    client.close()


def test_clients_that_leave_leave_nothing_behind(api: ApiServer) -> None:
    out(api, "run", "-d", "--name", "q", "busybox", "sleep", "60")
    commands = [["logs", "-f", "q"], ["events"], ["stats", "q"], ["attach", "q"],
                ["attach", "--no-stdin", "q"], ["wait", "q"]]  # fmt: skip
    threads, tasks = threading.active_count(), task_count(api)
    running = [
        subprocess.Popen([CLI or "docker", *c], env=environment(api), stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for c in commands
    ]  # fmt: skip
    end = time.monotonic() + 60
    while task_count(api) < tasks + len(commands):
        assert time.monotonic() < end
        time.sleep(0.05)
    for process in running:
        process.kill()
        process.wait()
    end = time.monotonic() + 60
    while task_count(api) > tasks and time.monotonic() < end:
        time.sleep(0.05)
    assert task_count(api) <= tasks
    assert threading.active_count() <= threads + 8 + 64 + 16
    outlet = api.engine.containers.processes[api.engine.containers.find("q").id].outlet
    while outlet.queues:  # a queue goes after the task that read it
        assert time.monotonic() < end, outlet.queues
        time.sleep(0.05)


def task_count(api: ApiServer) -> int:
    async def count() -> int:
        import asyncio

        return len(asyncio.all_tasks())

    return int(api.run(count()))
