"""What is mounted into containers, what stays read-only, and what Docker's init layer holds."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.daemon import Engine, fresh, unlike_reference
from tests.engine.test_docker_py import raw

TMPFS = "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770"


@pytest.fixture
def nested(folder: Path) -> Iterator[Path]:
    """A folder with a tmpfs mounted at its `below`."""
    below = folder / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "nk-nested", str(below)], check=True)
    yield folder
    subprocess.run(["umount", str(below)], check=True)


_TOUCH = "touch {0}/x 2>/dev/null && echo {0}"
WRITE = ["sh", "-c", f"{_TOUCH.format('/m')}; {_TOUCH.format('/m/below')}"]


@pytest.mark.parametrize(
    ("flags", "written"),
    [
        (["-v", "{}:/m:ro"], ""),
        (["--mount", "type=bind,src={},dst=/m,readonly"], ""),
        (["--mount", "type=bind,src={},dst=/m,readonly,bind-recursive=enabled"], ""),
        (["--mount", "type=bind,src={},dst=/m,readonly,bind-recursive=readonly,"
          "bind-propagation=rprivate"], ""),
        (["--mount", "type=bind,src={},dst=/m,readonly,bind-recursive=writable"], "/m/below"),
        (["--mount", "type=bind,src={},dst=/m"], "/m\n/m/below"),
    ],
)  # fmt: skip
@unlike_reference("read-only mounts are recursive since 25.0")
def test_a_read_only_bind_is_read_only_all_the_way_down(
    engine: Engine, nested: Path, flags: list[str], written: str
) -> None:
    where = [flag.format(nested) for flag in flags]
    assert engine.run(*where, "busybox", *WRITE, check=False) == written


def test_what_is_mounted_below_is_not_there_without_recursion(engine: Engine, nested: Path) -> None:
    (nested / "below" / "file").touch()
    flag = f"type=bind,src={nested},dst=/m,readonly,bind-recursive=disabled"
    assert engine.run("--mount", flag, "busybox", "ls", "/m/below") == ""


def test_a_read_only_root_has_read_only_network_files(engine: Engine) -> None:
    files = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
    script = f"for f in {' '.join(files)}; do (echo x >>$f) 2>/dev/null && echo $f; done; true"
    assert engine.run("--read-only", "busybox", "sh", "-c", script) == ""
    assert engine.run("busybox", "sh", "-c", script).split() == list(files)


def test_the_options_of_a_tmpfs_mount_hold(engine: Engine) -> None:
    script = "df /t | tail -1 | tr -s ' ' | cut -d' ' -f2; stat -c %a /t; grep ' /t ' /proc/mounts"
    size, mode, mount = engine.run("--mount", TMPFS, "busybox", "sh", "-c", script).splitlines()
    assert (size, mode) == ("1024", "1770")
    assert {"nosuid", "nodev", "noexec"} <= set(mount.split()[3].split(","))
    assert " ro," in engine.run("--mount", f"{TMPFS},readonly", "busybox", "sh", "-c", script)


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("/new", "1777 0"),  # the image has none: the mode of any tmpfs
        ("/new:mode=0700,uid=7", "700 7"),
        ("/data", "755 0"),  # the image has it: its mode
        ("/data:mode=1770", "1770 0"),
    ],
)
@unlike_reference("runc gave a tmpfs the mode of what is below it")
def test_a_tmpfs_has_its_mode_at_every_start(engine: Engine, option: str, shown: str) -> None:
    target = option.partition(":")[0]
    name = fresh("c")
    command = ["stat", "-c", "%a %u", target]
    engine.out("create", "--name", name, "--tmpfs", option, "busybox", *command)
    for _ in range(2):
        assert engine.out("start", "-a", name) == shown
    assert "/data" not in engine.out("diff", name)


@pytest.mark.parametrize("options", [{"SizeBytes": -1}, {"Mode": 0o17777}, {"Options": [["a,b"]]}])
def test_a_tmpfs_mount_that_cannot_be_is_refused(
    engine: Engine, options: dict[str, object]
) -> None:
    mount = {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": options}
    body = {"Image": "busybox", "HostConfig": {"Mounts": [mount]}}
    answer = raw(engine, "POST", "/containers/create", json=body)
    assert answer.status_code == 400
    assert "tmpfs /t" in answer.json()["message"]


def test_a_container_is_furnished_from_its_creation_on(engine: Engine) -> None:
    name = fresh("c")
    engine.out("create", "--name", name, "-v", "/anonymous", "-w", "/work/deep", "busybox")
    for path in ("/.dockerenv", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/etc/mtab",
                 "/dev/shm", "/dev/console", "/anonymous", "/work/deep"):  # fmt: skip
        assert engine.docker("cp", f"{name}:{path}", "-", check=False).returncode == 0, path
    assert engine.run("busybox", "readlink", "/etc/mtab") == "/proc/mounts"
    assert engine.run("busybox", "stat", "-c", "%F", "/.dockerenv") == "regular empty file"


def test_furniture_is_no_change_of_the_container(engine: Engine) -> None:
    name = fresh("c")
    engine.out("create", "--name", name, "busybox", "touch", "/made")
    engine.docker("start", "-a", name)
    assert engine.out("diff", name) == "A /made"


def test_an_anonymous_volume_is_a_folder_that_can_be_written(engine: Engine) -> None:
    assert engine.run("-v", "/v", "busybox", "sh", "-c", "echo x >/v/x; cat /v/x") == "x"
    engine.load_image("withvolume", changes=["VOLUME /data2"])
    assert engine.run("withvolume", "sh", "-c", "echo y >/data2/x; cat /data2/x") == "y"


def test_a_working_directory_that_is_a_file_is_refused_in_one_line(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "-w", "/etc/passwd", "busybox", "true", check=False)
    assert done.returncode == 125
    assert "Cannot mkdir: /etc/passwd is not a directory" in done.stderr


# /dev/shm and IPC

SHM = ["sh", "-c", "touch /dev/shm/mine && readlink /proc/self/ns/ipc; sleep 100"]


def test_shareable_memory_is_shared_and_goes_with_its_container(engine: Engine) -> None:
    donor = engine.up("--ipc", "shareable", "--shm-size", "2m", "--stop-timeout=1", "busybox", *SHM)
    size = "df /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2"
    script = f"ls /dev/shm; readlink /proc/self/ns/ipc; {size}"
    seen = engine.run("--ipc", f"container:{donor}", "busybox", "sh", "-c", script).splitlines()
    assert seen == ["mine", engine.out("logs", donor), "2048"]
    assert engine.inspect(donor)["HostConfig"]["IpcMode"] == "shareable"
    engine.docker("rm", "-f", donor)
    assert str(engine.rundir / "shm") not in Path("/proc/self/mountinfo").read_text()


def test_private_ipc_is_the_default_is_shown_and_cannot_be_joined(engine: Engine) -> None:
    name = engine.sleeper()
    assert engine.inspect(name)["HostConfig"]["IpcMode"] == "private"
    flags = ("--rm", "--ipc", f"container:{name}")
    done = engine.docker("run", *flags, "busybox", "true", check=False)
    assert done.returncode == 125
    assert "non-shareable IPC" in done.stderr


def test_no_ipc_has_a_namespace_of_its_own_and_no_shared_memory(engine: Engine) -> None:
    script = "grep -c ' /dev/shm ' /proc/mounts; readlink /proc/self/ns/ipc"
    count, space = engine.run("--ipc", "none", "busybox", "sh", "-c", script).splitlines()
    assert count == "0"
    assert space != Path("/proc/self/ns/ipc").readlink().name


def test_the_primary_group_is_among_the_supplementary_ones(engine: Engine) -> None:
    script = "grep Groups: /proc/self/status"
    groups = engine.run("-u", "app", "busybox", "sh", "-c", script).split()[1:]
    assert set(groups) == {"1001", "50"}
    assert engine.run("-u", "app:7", "busybox", "sh", "-c", script).split()[1:] == ["7"]
    name = engine.sleeper()
    assert engine.out("exec", "-u", "4242:4343", name, "sh", "-c", script).split()[1:] == ["4343"]


def test_files_of_a_container_that_does_not_run_are_those_of_its_binds(
    engine: Engine, folder: Path
) -> None:
    (folder / "there").write_text("from the host\n")
    (folder / "put").write_text("put\n")
    name = fresh("c")
    engine.out("create", "--name", name, "-v", f"{folder}:/b", "-v", f"{folder}:/ro:ro", "busybox")
    engine.docker("cp", f"{name}:/b/there", f"{folder}/copy")
    assert (folder / "copy").read_text() == "from the host\n"
    for target in ("/b", "/b/"):
        engine.docker("cp", f"{folder}/put", f"{name}:{target}")
    engine.docker("cp", f"{folder}/put", f"{name}:/b/as")
    assert (folder / "as").read_text() == "put\n"
    refused = engine.docker("cp", f"{folder}/put", f"{name}:/ro/as2", check=False)
    assert refused.returncode == 1
    assert "read-only" in refused.stderr
    assert engine.docker("cp", f"{name}:/b/nosuch", "-", check=False).returncode == 1


def test_skopeo_of_debian_12_reads_and_writes_images(engine: Engine, folder: Path) -> None:
    """skopeo uses API 1.22."""
    if not shutil.which("skopeo"):
        pytest.skip("needs skopeo in PATH")
    copy = ["skopeo", "copy", "-q"]
    out = [*copy, "--src-daemon-host", engine.host, "docker-daemon:busybox:latest"]
    subprocess.run([*out, f"oci:{folder}/image:x"], check=True)
    back = [*copy, "--dest-daemon-host", engine.host, f"oci:{folder}/image:x"]
    subprocess.run([*back, "docker-daemon:back:1"], check=True)
    assert engine.run("back:1", "cat", "/data/one") == "1"
