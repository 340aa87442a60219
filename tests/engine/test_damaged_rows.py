"""A row that cannot be read takes no list down, and nothing of what it is about is swept."""

from __future__ import annotations

import sqlite3

from tests.engine.daemon import Engine, fresh, netkit_only

pytestmark = netkit_only("its store is another")


def test_rows_that_cannot_be_read_are_left_out(own_engine: Engine) -> None:
    engine = own_engine
    engine.load_image()
    good, bad, net, other = fresh("good"), fresh("bad"), fresh("net"), fresh("other")
    for name in (net, other):
        engine.docker("network", "create", name)
    engine.sleeper("--network", other, name=good)
    ident = engine.out("create", "--name", bad, "busybox", "true")
    engine.docker("cp", "-", f"{bad}:/", input=bytes(1024))
    engine.netkit("fw", "drop", "--to", good, "-p", "80/tcp")
    used = engine.out("network", "inspect", "-f", "{{.Id}}", other)
    network = engine.out("network", "inspect", "-f", "{{.Id}}", net)
    engine.stop()
    with sqlite3.connect(engine.root / "netkit.db") as db:
        damage = b'{"id": 5'
        for table, key in (("container", ident), ("networks", network), ("networks", used)):
            assert db.execute(f"UPDATE {table} SET doc=? WHERE id=?", (damage, key)).rowcount == 1
        assert db.execute("UPDATE access SET doc=?", (damage,)).rowcount == 1
    db.close()
    engine.restart()
    assert engine.out("ps", "-a", "--format", "{{.Names}}") == good
    for name in (net, other):
        assert f"{name} unreadable" in engine.out(
            "network", "ls", "--format", "{{.Name}} {{.Driver}}"
        )
    for command in (("system", "df", "-v"), ("images",), ("info",), ("inspect", good)):
        engine.docker(*command)
    engine.netkit("fw", "ls")
    engine.docker("exec", good, "true")
    assert (engine.root / "snapshots" / ident / "diff").is_dir()
    engine.docker("rm", "-f", good)
    engine.docker("network", "rm", net, other)
    taken = engine.docker("create", "--name", bad, "busybox", check=False)
    assert (taken.returncode, "is already in use" in taken.stderr) == (1, True)
    log = engine.log.read_text()
    for what in (f"container {ident}", f"network {network}", f"network {used}", "access rule "):
        assert f" {what}" in log
    assert log.count("its row cannot be read") == 4
