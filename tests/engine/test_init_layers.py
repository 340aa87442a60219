"""Containers of one image share the layer of mount points below their own."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from tests.engine.daemon import Engine, fresh, netkit_only


def layer(engine: Engine, ident: str) -> Path:
    return engine.root / "snapshots" / ident / "init"


@netkit_only("its files differ")
def test_containers_of_an_image_share_their_mount_points(
    own_engine: Engine, tmp_path: Path
) -> None:
    engine = own_engine
    tag = fresh("shared")
    engine.load_image(tag)
    idents = [engine.out("create", "-w", "/srv/work", tag, "sh", "-c", "echo x > made; id")
              for _ in range(4)]  # fmt: skip
    first, second, third, fourth = idents
    assert not layer(engine, first).is_symlink()
    shared = os.readlink(layer(engine, second))
    assert [os.readlink(layer(engine, i)) for i in (third, fourth)] == [shared, shared]
    below = engine.inspect(third)["GraphDriver"]["Data"]["LowerDir"].split(":")
    assert (Path(below[0]) / "etc/resolv.conf").is_file()
    before = sorted(p.name for p in layer(engine, third).rglob("*"))

    for ident in (first, third):
        assert "uid=0" in engine.out("start", "-a", ident)
        assert engine.out("diff", ident).splitlines() == [
            "A /srv", "A /srv/work", "A /srv/work/made",
        ]  # fmt: skip
    engine.docker("export", "-o", str(tmp_path / "tar"), third)
    image = fresh("made")
    engine.docker("commit", fourth, image)
    tar = engine.client.api.get_archive(third, "/etc")[0]
    with tarfile.open(fileobj=io.BytesIO(b"".join(tar))) as files:
        assert "etc/hosts" in files.getnames()
    # it outlives the daemon, the containers that made it, and goes by no container's hand
    engine.docker("rm", first, second)
    engine.stop()
    engine.restart()
    script = "rm -rf /etc /dev/shm 2>/dev/null; ls /proc/1/cmdline"
    last = engine.out("create", tag, "sh", "-c", script)
    assert os.readlink(layer(engine, last)) == shared
    assert engine.out("start", "-a", last) == "/proc/1/cmdline"
    assert sorted(p.name for p in layer(engine, third).rglob("*")) == before
    assert engine.run(tag, "cat", "/etc/hostname")


@netkit_only("its files differ")
def test_volumes_are_filled_where_the_mount_points_are_shared(own_engine: Engine) -> None:
    engine = own_engine
    tag = fresh("filled")
    engine.load_image(tag)
    for n in range(3):
        name = f"vol{n}"
        assert engine.run("-v", f"{name}:/data", tag, "ls", "/data").split() == ["one", "two"]
    done = engine.docker("create", "-v", "late:/www/index.html", tag, check=False)
    assert "file exists" in done.stderr
