"""A row that cannot be read takes no list down, and nothing of what it is about is swept."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests.engine import wire
from tests.engine.daemon import Engine, fresh, netkit_only

pytestmark = netkit_only("its store is another")


def rules(engine: Engine, network: str) -> list[str]:
    """In the kernel, with the mark of a network."""
    found = wire.run(engine.netns, "iptables-save").stdout.splitlines()
    return sorted(line for line in found if f":{network[:12]}" in line)


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
    before = [rules(engine, id) for id in (network, used)]
    assert all(len(found) > 4 for found in before)
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
    rule = engine.netkit("fw", "ls", "-q").stdout.strip()
    assert "unreadable" in engine.netkit("fw", "ls").stdout
    checked = engine.netkit("fw", "check", check=False)
    assert (checked.returncode, f"netkit fw rm {rule}" in checked.stdout) == (1, True)
    assert len(checked.stdout.splitlines()) == 3  # no step about what is left alone
    for id in (network, used):
        assert f"netkit net rm {id}" in checked.stdout
    assert engine.netkit("fw", "repair", check=False).returncode == 1
    assert [rules(engine, id) for id in (network, used)] == before
    warned = engine.out("info", "-f", "{{json .Warnings}}")
    for what in (f"container {ident}", f"network {network}", f"access rule {rule}"):
        assert f"WARNING: {what} is left out" in warned
    assert engine.netkit("fw", "rm", rule[:6]).stdout.strip() == rule
    assert rule not in engine.netkit("fw", "check", check=False).stdout
    assert rule not in engine.out("info", "-f", "{{json .Warnings}}")
    engine.docker("exec", good, "true")
    assert (engine.root / "snapshots" / ident / "diff").is_dir()
    engine.docker("rm", "-f", good)
    engine.docker("network", "rm", net, other)
    assert [rules(engine, id) for id in (network, used)] == [[], []]
    taken = engine.docker("create", "--name", bad, "busybox", check=False)
    assert (taken.returncode, "is already in use" in taken.stderr) == (1, True)
    log = engine.log.read_text()
    for what in (f"container {ident}", f"network {network}", f"network {used}", "access rule "):
        assert f" {what}" in log
    assert log.count("its row cannot be read") == 4


def test_a_container_whose_network_row_cannot_be_read_is_restarted_and_removed(
    own_engine: Engine,
) -> None:
    engine = own_engine
    engine.load_image()
    names = [engine.sleeper("-p", "127.0.0.1::80", name=fresh("boxed")) for _ in range(3)]

    def damage() -> int:
        with closing(sqlite3.connect(engine.root / "netkit.db")) as db, db:
            return db.execute("UPDATE sandboxes SET doc='{'").rowcount

    assert damage() == 3
    engine.docker("restart", names[0])
    engine.docker("rm", "-f", names[1])
    engine.stop()
    assert damage() == 2
    engine.restart()
    assert engine.address(names[2])
    engine.docker("exec", names[0], "true")
    engine.docker("rm", "-f", names[0], names[2])
    assert damage() == 0
