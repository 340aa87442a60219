"""--link on the default network and its aliases on other networks, by the stock CLI."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.engine.daemon import Engine, fresh, netkit_only
from tests.engine.test_networks import PAGE, WEB, get, net


def test_a_link_gives_name_and_environment(engine: Engine) -> None:
    db = engine.up("--expose", "80", "-e", "MODE=fast", *WEB)
    name = fresh("app")
    app = engine.sleeper("--link", f"{db}:db", name=name)
    assert get(engine, app, "http://db/") == PAGE
    assert get(engine, app, f"http://{db}/") == PAGE
    env = engine.out("exec", app, "env").splitlines()
    assert f"DB_PORT_80_TCP_ADDR={engine.address(db)}" in env
    assert f"DB_NAME=/{name}/db" in env
    assert "DB_ENV_MODE=fast" in env
    assert engine.inspect(app)["HostConfig"]["Links"] == [f"/{db}:/{name}/db"]


def test_the_name_follows_a_child_that_restarts_elsewhere(engine: Engine) -> None:
    db = engine.up("--expose", "80", *WEB)
    app = engine.sleeper("--link", f"{db}:db")
    before = engine.address(db)
    engine.docker("stop", "-t", "0", db)
    taken = engine.sleeper()  # gets the address that is free now
    engine.docker("start", db)
    assert engine.address(db) != before == engine.address(taken)
    assert get(engine, app, "http://db/") == PAGE


def test_a_child_that_does_not_run_is_reported(engine: Engine) -> None:
    db = fresh("db")
    engine.docker("create", "--name", db, "busybox", "true")
    app = engine.docker("run", "--link", db, "busybox", "true", check=False)
    assert app.returncode == 125
    assert "Cannot link to a non running container" in app.stderr
    missing = engine.docker("run", "--link", "nobody", "busybox", "true", check=False)
    assert "could not get container for nobody" in missing.stderr


def test_an_alias_on_a_user_defined_network_is_the_containers_own(engine: Engine) -> None:
    lane = net(engine)
    db = engine.up("--network", lane, *WEB)
    app = engine.sleeper("--network", lane, "--link", f"{db}:db")
    other = engine.sleeper("--network", lane)
    assert get(engine, app, "http://db/") == PAGE
    assert get(engine, other, "http://db/", timeout=2) is None
    assert get(engine, other, f"http://{db}/") == PAGE


def test_a_link_is_a_name_of_the_child_too(engine: Engine) -> None:
    db, app = engine.sleeper(), fresh("app")
    engine.sleeper("--link", f"{db}:db", name=app)
    assert engine.inspect(f"{app}/db")["Name"] == f"/{db}"
    assert engine.out("exec", f"/{app}/db", "hostname") == engine.inspect(db)["Id"][:12]
    (listed,) = engine.client.api.containers(filters={"name": f"{app}/db"})
    assert listed["Names"] == [f"/{db}", f"/{app}/db"]
    assert engine.out("ps", "--format", "{{.Names}}").split() == [app, db]
    shown = engine.out("ps", "--no-trunc", "--format", "{{.Names}}")
    assert f"{app}/db" in shown
    assert f"{app}/db" in engine.netkit("ps", "--no-trunc", "--format", "{{.Names}}").stdout
    engine.docker("rm", "--link", f"{app}/db")
    assert engine.docker("inspect", f"{app}/db", check=False).returncode == 1


def test_a_link_to_a_container_on_anothers_network_leads_there(engine: Engine) -> None:
    db = engine.up(*WEB)
    near = engine.sleeper("--network", f"container:{db}")
    app = engine.sleeper("--link", f"{near}:db")
    assert get(engine, app, "http://db/") == PAGE


def test_a_link_to_a_container_that_joined_the_default_network_later(engine: Engine) -> None:
    db = engine.up("--network", net(engine), *WEB)
    app = fresh("app")
    engine.docker("create", "--name", app, "--link", f"{db}:db", "busybox", "sleep", "1000")
    refused = engine.docker("start", app, check=False)
    assert f"Cannot link to /{db}, as it does not belong to the default" in refused.stderr
    engine.docker("network", "connect", "bridge", db)
    engine.docker("start", app)
    assert get(engine, app, "http://db/") == PAGE
    engine.docker("network", "disconnect", "bridge", db)
    assert get(engine, app, "http://db/", timeout=2) is None
    engine.docker("network", "connect", "bridge", db)
    assert get(engine, app, "http://db/") == PAGE


@netkit_only("20.10 says nothing of it")
def test_an_alias_that_is_taken_is_warned_of(engine: Engine) -> None:
    one, two = engine.up("--expose", "80", *WEB), engine.sleeper()
    app = fresh("app")
    links = ("--link", f"{one}:db", "--link", f"{two}:db")
    done = engine.docker("run", "-d", "--name", app, *links, "busybox", "sleep", "1000")
    assert f"link {two}:db is ignored" in done.stderr
    assert get(engine, app, "http://db/") == PAGE


@netkit_only("20.10 forgets the name")
def test_renamed_children_are_still_linked(engine: Engine) -> None:
    db = engine.up("--expose", "80", *WEB)
    app = engine.sleeper("--link", f"{db}:db")
    new = fresh("new")
    engine.docker("rename", db, new)
    assert engine.inspect(app)["HostConfig"]["Links"] == [f"/{new}:/{app}/db"]
    engine.docker("restart", "-t", "0", app)
    assert get(engine, app, "http://db/") == PAGE


def test_removing_a_link_keeps_the_containers(engine: Engine) -> None:
    db = engine.up("--expose", "80", *WEB)
    app = engine.sleeper("--link", f"{db}:db")
    engine.docker("rm", "--link", f"{app}/db")
    assert get(engine, app, "http://db/", timeout=2) is None
    assert engine.state(app)["Running"]
    again = engine.docker("rm", "--link", f"{app}/db", check=False)
    assert again.returncode == 1


@pytest.mark.parametrize("own_engine", [("--icc=false",)], indirect=True, ids=["icc=false"])
def test_without_icc_exactly_the_linked_pair_and_the_exposed_ports(own_engine: Engine) -> None:
    strict = own_engine
    db = strict.up("--expose", "80", *WEB)
    strict.docker("exec", "-d", db, "httpd", "-p", "81", "-h", "/www")
    app = strict.sleeper("--link", f"{db}:db")
    stranger = strict.sleeper()
    address = strict.address(db)

    def check() -> None:
        asks = {
            (app, f"http://{address}/"): PAGE,
            (app, f"http://{address}:81/"): None,
            (stranger, f"http://{address}/"): None,
            (stranger, f"http://{strict.address(app)}/"): None,
        }
        with ThreadPoolExecutor(len(asks)) as pool:  # silence costs its time only once
            found = pool.map(lambda ask: get(strict, *ask, timeout=3 if asks[ask] else 1), asks)
            assert dict(zip(asks, found, strict=True)) == asks

    check()
    strict.kill9()
    strict.restart()
    check()
    strict.docker("restart", "-t", "0", db)
    strict.docker("exec", "-d", db, "httpd", "-p", "81", "-h", "/www")
    address = strict.address(db)
    check()
    strict.docker("restart", "-t", "0", app)
    check()
    strict.docker("rm", "-f", app)
    thief = strict.sleeper()  # has the parent's address now
    assert get(strict, thief, f"http://{address}/", timeout=1) is None
