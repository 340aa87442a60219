"""diff, cp both ways, export, commit-free image round trips."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from tests.engine.daemon import Engine, fresh


def test_diff_shows_added_changed_and_deleted(engine: Engine) -> None:
    name = engine.up(
        "busybox", "sh", "-c", "echo x > /data/new; echo y >> /data/one; rm /data/two; mkdir /d"
    )
    engine.docker("wait", name)
    assert sorted(engine.out("diff", name).splitlines()) == [
        "A /d", "A /data/new", "C /data", "C /data/one", "D /data/two",
    ]  # fmt: skip


def test_diff_of_an_untouched_container_is_empty(engine: Engine) -> None:
    name = fresh("c")
    engine.docker("create", "--name", name, "busybox")
    assert engine.out("diff", name) == ""


def test_cp_out_of_a_running_and_a_stopped_container(engine: Engine, folder: Path) -> None:
    name = engine.up("busybox", "sh", "-c", "echo made > /made; sleep 100000")
    engine.docker("exec", name, "sh", "-c", "until test -s /made; do :; done")
    engine.docker("cp", f"{name}:/made", f"{folder}/a")
    engine.docker("kill", name)
    engine.wait_for(name, "Running", False)
    engine.docker("cp", f"{name}:/made", f"{folder}/b")
    assert (folder / "a").read_text() == (folder / "b").read_text() == "made\n"


def test_cp_of_folders_follows_cp_s_rules(engine: Engine, folder: Path) -> None:
    name = engine.sleeper()
    engine.docker("cp", f"{name}:/data", f"{folder}/copy")  # does not exist: becomes it
    assert (folder / "copy/one").read_text() == "1\n"
    (folder / "there").mkdir()
    engine.docker("cp", f"{name}:/data", f"{folder}/there")  # exists: goes inside
    assert (folder / "there/data/two").read_text() == "22\n"
    engine.docker("cp", f"{name}:/data/.", f"{folder}/there")  # contents only
    assert (folder / "there/two").exists()


def test_cp_into_a_container(engine: Engine, folder: Path) -> None:
    name = engine.sleeper()
    (folder / "f").write_text("from outside\n")
    (folder / "f").chmod(0o640)
    engine.docker("cp", f"{folder}/f", f"{name}:/tmp/renamed")
    assert engine.out("exec", name, "cat", "/tmp/renamed") == "from outside"
    assert engine.out("exec", name, "stat", "-c", "%a", "/tmp/renamed") == "640"
    (folder / "d/deep").mkdir(parents=True)
    (folder / "d/deep/x").write_text("x")
    engine.docker("cp", f"{folder}/d", f"{name}:/opt")
    assert engine.out("exec", name, "ls", "/opt/deep") == "x"


def test_cp_by_standard_input_and_output(engine: Engine) -> None:
    name = engine.sleeper()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("streamed")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"abc"))
    engine.docker("cp", "-", f"{name}:/tmp", input=out.getvalue())
    assert engine.out("exec", name, "cat", "/tmp/streamed") == "abc"
    back = engine.docker("cp", f"{name}:/tmp/streamed", "-").stdout.encode(errors="surrogateescape")
    with tarfile.open(fileobj=io.BytesIO(back)) as tar:
        assert tar.getnames() == ["streamed"]


def test_cp_of_what_is_not_there(engine: Engine, folder: Path) -> None:
    name = engine.sleeper()
    done = engine.docker("cp", f"{name}:/nosuch", str(folder), check=False)
    assert done.returncode == 1
    assert "/nosuch" in done.stderr
    (folder / "f").write_text("")
    assert (
        engine.docker("cp", f"{folder}/f", f"{name}:/no/such/folder/", check=False).returncode == 1
    )


def test_a_link_in_the_container_does_not_lead_to_the_host(engine: Engine, folder: Path) -> None:
    secret = folder / "secret"
    secret.write_text("of the host")
    name = engine.sleeper()
    engine.docker("exec", name, "ln", "-s", str(secret), "/link")
    engine.docker("exec", name, "ln", "-s", str(folder), "/dir")
    assert engine.docker("cp", "-L", f"{name}:/link", f"{folder}/got", check=False).returncode == 1
    (folder / "evil").write_text("evil")
    engine.docker("cp", f"{folder}/evil", f"{name}:/dir/planted", check=False)
    assert not (folder / "planted").exists()
    assert secret.read_text() == "of the host"


def test_cp_into_a_read_only_container_is_refused(engine: Engine, folder: Path) -> None:
    name = engine.sleeper("--read-only")
    (folder / "f").write_text("")
    done = engine.docker("cp", f"{folder}/f", f"{name}:/x", check=False)
    assert done.returncode == 1
    assert "read-only" in done.stderr.lower()


def test_cp_keeps_a_link_as_a_link(engine: Engine, folder: Path) -> None:
    name = engine.sleeper()
    engine.docker("cp", f"{name}:/bin/ls", f"{folder}/ls")
    assert os.readlink(folder / "ls") == "busybox"


def test_export_is_the_container_s_file_system(engine: Engine, folder: Path) -> None:
    name = engine.up("busybox", "sh", "-c", "echo mine > /mine; rm /data/two")
    engine.docker("wait", name)
    target = folder / "fs.tar"
    engine.docker("export", "-o", str(target), name)
    with tarfile.open(target) as tar:
        names = {entry.removeprefix("./") for entry in tar.getnames()}
        assert {"mine", "data/one", "bin/busybox"} <= names
        assert "data/two" not in names
        assert tar.extractfile("mine") is not None
    image = fresh("img")
    engine.docker("import", str(target), image)
    assert engine.run(image, "/bin/cat", "/mine") == "mine"
