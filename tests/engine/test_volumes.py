"""Volumes with the stock docker CLI: first use, sharing, removal, cp, options, images as mounts."""

from __future__ import annotations

import json
import os
import sqlite3
import tarfile
import time
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest

from tests.engine import image
from tests.engine.daemon import KIND, Engine, fresh, netkit_only, unlike_reference

AT = 1_600_000_000


def volumes(engine: Engine, *flags: str) -> list[str]:
    return sorted(engine.out("volume", "ls", "-q", *flags).split())


def place(engine: Engine, name: str) -> Path:
    return Path(engine.out("volume", "inspect", "-f", "{{.Mountpoint}}", name))


@pytest.fixture
def seeded(engine: Engine) -> Engine:
    """The engine with an image `seeded`, whose /srv has files of every kind."""
    made = BytesIO(image.rootfs())
    with tarfile.open(fileobj=made, mode="a", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, mode, link in (
            ("srv", tarfile.DIRTYPE, 0o1750, ""),
            ("srv/sub", tarfile.DIRTYPE, 0o2700, ""),
            ("srv/sub/two", tarfile.REGTYPE, 0o640, ""),
            ("srv/setuid", tarfile.REGTYPE, 0o4755, ""),
            ("srv/hard", tarfile.LNKTYPE, 0o640, "srv/sub/two"),
            ("srv/link", tarfile.SYMTYPE, 0, "/etc/passwd"),
            ("srv/fifo", tarfile.FIFOTYPE, 0o600, ""),
            ("file", tarfile.REGTYPE, 0o644, ""),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.linkname = kind, mode, link
            entry.uid, entry.gid, entry.mtime = 7, 8, AT
            if name == "srv/sub/two":
                entry.pax_headers = {"SCHILY.xattr.user.note": "kept"}
            text = b"text\n" if kind == tarfile.REGTYPE else b""
            entry.size = len(text)
            tar.addfile(entry, BytesIO(text))
    changes = [*image.CHANGES, "VOLUME /srv"]
    flags = [word for change in changes for word in ("-c", change)]
    engine.docker("import", *flags, "-", "seeded", input=made.getvalue())
    return engine


def test_a_new_volume_gets_the_files_of_the_image(seeded: Engine) -> None:
    engine = seeded
    engine.out("create", "--name", (name := fresh("c")), "-v", "first:/srv", "seeded")
    data = place(engine, "first")
    shown = {
        p.relative_to(data).as_posix(): (st.st_mode & 0o7777, st.st_uid, st.st_gid, st.st_mtime)
        for p in (data, *data.rglob("*"))
        if (st := p.lstat())
    }
    if KIND == "dockerd":  # which leaves folders the time of the copy
        shown |= {name: (*shown[name][:3], AT) for name in (".", "sub")}
    assert shown == {
        ".": (0o1750, 7, 8, AT), "sub": (0o2700, 7, 8, AT), "sub/two": (0o640, 7, 8, AT),
        "setuid": (0o4755, 7, 8, AT), "hard": (0o640, 7, 8, AT), "link": (0o777, 7, 8, AT),
        "fifo": (0o600, 7, 8, AT),
    }  # fmt: skip
    assert os.readlink(data / "link") == "/etc/passwd"
    assert (data / "hard").stat().st_ino == (data / "sub/two").stat().st_ino
    assert os.getxattr(data / "sub/two", "user.note") == b"kept"
    (data / "mine").touch()
    (data / "link").unlink()
    engine.docker("rm", "-v", name)
    assert "link" not in engine.run("-v", "first:/srv", "seeded", "ls", "/srv").split()
    assert engine.run("-v", "second:/srv:nocopy", "seeded", "ls", "/srv") == ""
    assert "mine" not in engine.run("-v", "second:/srv:ro", "seeded", "ls", "/srv").split()
    assert "setuid" in os.listdir(place(engine, "second"))
    assert sorted(p.name for p in data.parent.iterdir()) == ["_data"]


@netkit_only("its text has a path of its storage, and the volume stays")
def test_an_image_with_a_file_at_the_place_is_refused_and_nothing_stays(seeded: Engine) -> None:
    engine = seeded
    done = engine.docker("create", "-v", "vol:/file", "seeded", check=False)
    assert done.returncode == 1
    assert "cannot mount volume over existing file, file exists /file" in done.stderr
    assert volumes(engine) == []
    assert engine.out("ps", "-aq") == ""


@unlike_reference("prune took named volumes before 23.0")
def test_anonymous_volumes_go_with_their_container_if_asked(seeded: Engine) -> None:
    engine = seeded
    for flags, left in ((["rm"], 2), (["rm", "-v"], 0), (["rm", "-fv"], 0)):
        name = fresh("c")
        engine.out("create", "--name", name, "-v", "/more", "-v", "named:/n", "seeded")
        assert len(volumes(engine)) == 3
        engine.docker(*flags, name)
        assert len(volumes(engine)) == 1 + left
        engine.docker("volume", "prune", "-f")
        assert volumes(engine) == ["named"]
    engine.run("-v", "/more", "seeded", "true")  # --rm
    name = fresh("c")
    engine.docker("run", "--name", name, "seeded", "true")
    engine.docker("container", "prune", "-f")
    assert len(volumes(engine)) == 2  # as dockerd: prune of containers leaves them
    assert "Total reclaimed space" in engine.out("volume", "prune", "-af")
    assert volumes(engine) == []


def test_a_chain_of_data_volume_containers(seeded: Engine) -> None:
    """The course, 14.3."""
    engine = seeded
    one, two, three = fresh("c"), fresh("c"), fresh("c")
    engine.docker("run", "--name", one, "seeded", "touch", "/srv/one")
    engine.docker("run", "--name", two, "--volumes-from", one, "busybox", "touch", "/srv/two")
    engine.out("create", "--name", three, "--volumes-from", f"{two}:ro", "busybox",
               "sh", "-c", "ls /srv; touch /srv/three")  # fmt: skip
    engine.docker("rm", "-v", one)
    done = engine.docker("start", "-a", three, check=False)
    assert {"one", "two"} <= set(done.stdout.split())
    assert "Read-only file system" in done.stderr
    assert engine.inspect(three)["HostConfig"]["VolumesFrom"] == [f"{two}:ro"]
    (mount,) = engine.inspect(three)["Mounts"]
    assert (mount["Type"], mount["Destination"], mount["RW"]) == ("volume", "/srv", False)
    assert engine.out("ps", "-aq", "--no-trunc", "-f", f"volume={mount['Name']}").split() == [
        engine.inspect(c)["Id"] for c in (three, two)
    ]
    refused = engine.docker("volume", "rm", mount["Name"], check=False)
    assert "volume is in use - [" in refused.stderr
    engine.docker("rm", "-v", two)
    assert volumes(engine) == [mount["Name"]]
    engine.docker("rm", "-v", three)
    assert volumes(engine) == []


@unlike_reference("a volume that exists was created again for each container")
def test_what_events_and_df_say_of_volumes(engine: Engine) -> None:
    begin = str(time.time())
    engine.docker("volume", "create", "vol")
    engine.run("-v", "vol:/v:ro", "busybox", "true")
    usage = json.loads(engine.out("system", "df", "--format", "json").splitlines()[2])
    assert (usage["Type"], usage["TotalCount"], usage["Active"]) == ("Local Volumes", "1", "0")
    engine.docker("volume", "rm", "vol")
    lines = engine.out(
        "events", "--since", begin, "--until", str(time.time()), "--filter", "type=volume",
        "--format", "{{.Action}} {{.Actor.ID}} {{json .Actor.Attributes}}",
    ).splitlines()  # fmt: skip
    assert [line.split()[:2] for line in lines] == [
        [action, "vol"] for action in ("create", "mount", "unmount", "destroy")
    ]
    mounted = json.loads(lines[1].split(" ", 2)[2])
    assert {k: v for k, v in mounted.items() if k != "container"} == {
        "driver": "local", "destination": "/v", "read/write": "false", "propagation": "",
    }  # fmt: skip


# cp, export, diff


def test_cp_sees_volumes_and_export_and_diff_do_not(engine: Engine, folder: Path) -> None:
    (folder / "put").write_text("put\n")
    name = fresh("c")
    script = "ln -s /v/deep /short; mkdir -p /v/deep; ln -s /v/deep/x /v/deep/up; sleep 100"
    engine.out("create", "--name", name, "--stop-timeout", "1", "-v", "vol:/v", "-v", "ro:/ro:ro",
               "busybox", "sh", "-c", script)  # fmt: skip
    engine.docker("cp", f"{folder}/put", f"{name}:/v/before")
    assert (place(engine, "vol") / "before").read_text() == "put\n"
    for alive in (True, False):
        engine.docker(*(["start"] if alive else ["stop"]), name)
        engine.docker("exec", name, "true", check=False)
        engine.docker("cp", f"{folder}/put", f"{name}:/v/as-{alive}")
        assert (place(engine, "vol") / f"as-{alive}").read_text() == "put\n"
        engine.docker("cp", f"{name}:/v/before", f"{folder}/back")
        assert (folder / "back").read_text() == "put\n"
        engine.docker("cp", f"{folder}/put", f"{name}:/short/x")  # through a link of the root
        engine.docker("cp", "-L", f"{name}:/v/deep/up", f"{folder}/up")  # and one of the volume
        assert (folder / "up").read_text() == "put\n"
        refused = engine.docker("cp", f"{folder}/put", f"{name}:/ro/x", check=False)
        assert refused.returncode == 1
        assert "mounted volume is marked read-only" in refused.stderr
    engine.docker("export", "-o", str(folder / "export.tar"), name)
    with tarfile.open(folder / "export.tar") as tar:
        assert [n for n in tar.getnames() if n.startswith(("v/", "ro/"))] == []
    assert "/v/" not in engine.out("diff", name)
    mounts = Path("/proc/self/mountinfo").read_text()
    assert "volumes" not in [line for line in mounts.splitlines() if str(engine.rundir) in line]


# options of the driver


@netkit_only("containers end with the daemon")
def test_a_volume_in_memory_is_there_while_it_is_used(engine: Engine) -> None:
    options = ["type=tmpfs", "device=tmpfs", "o=size=1m,uid=7"]
    engine.docker("volume", "create", *(w for o in options for w in ("-o", o)), "mem")
    name = engine.up("--stop-timeout=1", "-v", "mem:/m", "busybox", "sleep", "100")
    script = "df /m | tail -1 | tr -s ' ' | cut -d' ' -f2; stat -c %u /m; touch /m/x"
    assert engine.out("exec", name, "sh", "-c", script).split() == ["1024", "7"]
    other = engine.up("--stop-timeout=1", "-v", "mem:/m", "busybox", "sleep", "100")
    engine.docker("rm", "-f", name)
    assert engine.out("exec", other, "ls", "/m") == "x"
    engine.kill9()
    engine.restart()
    assert engine.run("-v", "mem:/m", "busybox", "ls", "/m") == "x"
    assert os.path.ismount(place(engine, "mem"))
    engine.docker("rm", "-f", other)
    assert not os.path.ismount(place(engine, "mem"))
    assert engine.run("-v", "mem:/m", "busybox", "ls", "/m") == ""
    engine.docker("volume", "rm", "mem")


def test_a_folder_of_the_host_under_a_name(engine: Engine, folder: Path) -> None:
    (folder / "there").write_text("mine\n")
    flags = ["-o", "type=none", "-o", f"device={folder}", "-o", "o=bind"]
    engine.docker("volume", "create", *flags, "host")
    assert engine.run("-v", "host:/h", "busybox", "cat", "/h/there") == "mine"
    engine.docker("volume", "rm", "host")
    assert (folder / "there").read_text() == "mine\n"
    engine.docker("volume", "create", "-o", "type=none", "-o", f"device={folder}/nosuch",
                  "-o", "o=bind", "host")  # fmt: skip
    done = engine.docker("run", "--rm", "-v", "host:/h", "busybox", "true", check=False)
    assert "failed to mount local volume" in done.stderr
    assert "no such file or directory" in done.stderr
    assert not os.path.ismount(place(engine, "host"))


# parts of volumes, and images


@unlike_reference("there were no subpaths before 26.0")
def test_a_part_of_a_volume_and_never_more(engine: Engine) -> None:
    script = "mkdir -p /v/in/side; echo x >/v/in/side/f; ln -s / /v/out; ln -s in /v/alias"
    engine.run("-v", "vol:/v", "busybox", "sh", "-c", script)
    flag = "type=volume,src=vol,dst=/part,volume-subpath="
    for path in ("in/side", "alias/side"):
        assert engine.run("--mount", flag + path, "busybox", "ls", "/part") == "f"
    assert engine.run("--mount", flag + "in/side/f", "busybox", "cat", "/part") == "x"
    # `out` is a link to /: of the volume
    listed = engine.run("--mount", flag + "out", "busybox", "ls", "/part").split()
    assert sorted(listed) == ["alias", "in", "out"]
    done = engine.docker("run", "--rm", "--mount", flag + "no", "busybox", "true", check=False)
    assert done.returncode == 127  # as Docker's client has it for such words
    assert "cannot access path no" in done.stderr
    assert str(engine.rundir / "staged") not in Path("/proc/self/mountinfo").read_text()


@unlike_reference("there were no mounts of images before 28.0")
def test_the_files_of_an_image_read_only(seeded: Engine) -> None:
    engine = seeded
    name = engine.up("--stop-timeout=1", "--mount", "type=image,src=seeded,dst=/i",
                     "--mount", "type=image,src=seeded,dst=/s,image-subpath=srv/sub",
                     "busybox", "sleep", "100")  # fmt: skip
    assert engine.out("exec", name, "cat", "/i/file", "/s/two").split() == ["text", "text"]
    assert engine.docker("exec", name, "touch", "/i/x", check=False).returncode == 1
    shown = {m["Destination"]: m for m in engine.inspect(name)["Mounts"]}
    assert {k: shown["/i"][k] for k in ("Type", "Name", "RW", "Mode")} == {
        "Type": "image", "Name": "seeded", "RW": False, "Mode": "",
    }  # fmt: skip
    assert engine.docker("rmi", "seeded", check=False).returncode == 1
    engine.docker("stop", name)
    assert engine.docker("cp", f"{name}:/i/file", "-").stdout
    engine.docker("rm", "-f", name)
    assert str(engine.rundir / "staged") not in Path("/proc/self/mountinfo").read_text()
    flags = ["--pull=never", "--mount", "type=image,src=nosuch,dst=/i"]
    done = engine.docker("create", *flags, "busybox", check=False)
    assert "No such image: nosuch" in done.stderr


# crash safety, by kills at random instants in tests/engine/test_survival.py


@netkit_only("containers end with the daemon")
def test_volumes_are_there_after_a_kill_and_a_removal_is_completed(own_engine: Engine) -> None:
    engine = own_engine
    engine.load_image()
    engine.docker("volume", "create", "--label", "a=b", "vol")
    engine.run("-v", "vol:/data", "busybox", "sh", "-c", "echo mine >/data/mine")
    name = engine.up("-v", "vol:/data", "-v", "/anon", "busybox", "sleep", "100")
    engine.kill9()
    engine.restart()
    assert engine.out("volume", "inspect", "-f", "{{.Labels}}", "vol") == "map[a:b]"
    assert engine.out("exec", name, "cat", "/data/mine") == "mine"
    refused = engine.docker("volume", "rm", "vol", check=False)
    assert "volume is in use" in refused.stderr
    engine.docker("rm", "-fv", name)
    assert volumes(engine) == ["vol"]
    engine.docker("volume", "rm", "vol")


@netkit_only("its rows are of an older netkit")
def test_a_container_without_volumes_of_its_own_goes_on_as_it_was(own_engine: Engine) -> None:
    """As netkit made them: `Volumes` was a folder in the container's own layer."""
    engine = own_engine
    engine.load_image()
    name = fresh("c")
    engine.out("create", "--name", name, "-v", "/anon", "busybox",
               "sh", "-c", "ls /anon; mktemp /anon/XXXXXX >/dev/null")  # fmt: skip
    engine.stop()
    with closing(sqlite3.connect(Path(engine.root) / "netkit.db")) as db, db:
        (doc,) = db.execute("SELECT doc FROM container").fetchone()
        old = json.loads(doc) | {"mounts": []}
        db.execute("UPDATE container SET doc=?", (json.dumps(old).encode(),))
    engine.restart()
    counts = [len(engine.out("start", "-a", name).split()) for _ in range(3)]
    assert counts == [0, 1, 2]
    assert engine.docker("cp", f"{name}:/anon", "-").stdout
    engine.docker("rm", "-v", name)
