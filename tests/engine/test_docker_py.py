"""docker-py as a client: what programs, not people, ask of the engine."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from typing import Any

import docker
import pytest
import requests

from tests.engine.daemon import Engine, fresh, unlike_reference


def test_run_returns_output_and_raises_on_failure(engine: Engine) -> None:
    client = engine.client
    assert client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"
    with pytest.raises(docker.errors.ContainerError) as failed:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 4"], remove=True)
    assert failed.value.exit_status == 4
    assert b"bad" in failed.value.stderr


def test_life_of_a_container(engine: Engine) -> None:
    c = engine.client.containers.run("busybox", ["sleep", "1000"], detach=True, labels={"a": "b"})
    assert c.status == "created"
    c.reload()
    assert (c.status, c.labels) == ("running", {"a": "b"})
    c.pause()
    c.reload()
    assert c.status == "paused"
    c.unpause()
    c.rename(fresh("py"))
    c.restart(timeout=0)
    c.kill()
    assert c.wait()["StatusCode"] == 137
    c.remove()
    with pytest.raises(docker.errors.NotFound):
        engine.client.containers.get(c.id)


def test_errors_have_their_class_and_text(engine: Engine) -> None:
    client = engine.client
    with pytest.raises(docker.errors.ImageNotFound):
        client.containers.create("no-such-image-at-all", "true")
    name = engine.sleeper()
    with pytest.raises(docker.errors.APIError) as conflict:
        client.containers.create("busybox", name=name)
    assert conflict.value.status_code == 409
    assert "already in use" in conflict.value.explanation
    with pytest.raises(docker.errors.APIError) as bad:
        client.containers.create("busybox", name="not a name")
    assert bad.value.status_code == 400


def test_exec_with_separate_streams_and_socket(engine: Engine) -> None:
    c = engine.client.containers.get(engine.sleeper())
    code, (out, err) = c.exec_run(["sh", "-c", "echo o; echo e >&2; exit 3"], demux=True)
    assert (code, out, err) == (3, b"o\n", b"e\n")
    code, stream = c.exec_run(["seq", "3"], stream=True)
    assert b"".join(stream) == b"1\n2\n3\n"
    assert c.exec_run(["env"], environment={"Q": "1"}, workdir="/data", user="app").exit_code == 0


def test_an_exec_stream_has_frames_by_tty_of_its_start(engine: Engine) -> None:
    """Not by Tty of its creation, which only gives the process a terminal."""
    api, name = engine.client.api, engine.sleeper()
    command = ["sh", "-c", "test -t 1 && echo terminal; echo out; echo err >&2"]
    for terminal, raw in ((True, False), (False, True)):
        id = api.exec_create(name, command, tty=terminal)["Id"]
        got = api.exec_start(id, tty=raw, demux=not raw)
        assert got == (b"out\n" if raw else (b"terminal\r\nout\r\nerr\r\n", None)), (terminal, raw)


def test_attach_before_start_misses_nothing(engine: Engine) -> None:
    api = engine.client.api
    ident = api.create_container("busybox", ["echo", "quick"])["Id"]
    stream = api.attach(ident, stream=True, stdout=True, stderr=True)
    api.start(ident)
    assert b"".join(stream) == b"quick\n"


def test_wait_before_start_sees_a_short_life(engine: Engine) -> None:
    api = engine.client.api
    ident = api.create_container("busybox", ["sh", "-c", "exit 42"])["Id"]
    url = f"{engine.client.api.base_url}/containers/{ident}/wait?condition=next-exit"
    with engine.client.api.post(url, stream=True, timeout=60) as waiting:  # its head: it waits
        api.start(ident)
        assert waiting.json()["StatusCode"] == 42


def test_archives_in_and_out(engine: Engine) -> None:
    c = engine.client.containers.get(engine.sleeper())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("put")
        entry.size, entry.uid, entry.mode = 2, 1000, 0o600
        tar.addfile(entry, io.BytesIO(b"ok"))
    assert c.put_archive("/tmp", buffer.getvalue())
    chunks, facts = c.get_archive("/tmp/put")
    assert (facts["name"], facts["size"]) == ("put", 2)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        member = tar.getmember("put")
        assert (member.uid, member.mode & 0o777) == (1000, 0o600)


def test_networks_with_ipam_connect_and_aliases(engine: Engine) -> None:
    client = engine.client
    pool = docker.types.IPAMPool(subnet="10.89.0.0/24", gateway="10.89.0.254")
    net = client.networks.create(
        fresh("py"),
        driver="bridge",
        ipam=docker.types.IPAMConfig(pool_configs=[pool]),
        labels={"l": "1"},
    )
    c = client.containers.get(engine.sleeper())
    net.connect(c, aliases=["other"], ipv4_address="10.89.0.9")
    net.reload()
    assert [x.id for x in net.containers] == [c.id]
    other = engine.sleeper("--network", net.name)
    assert engine.docker("exec", other, "ping", "-c1", "-W1", "other").returncode == 0
    net.disconnect(c)
    assert client.networks.list(filters={"label": "l=1"}) == [net]


def test_events_stream(engine: Engine) -> None:
    client = engine.client
    since = int(time.time())
    name = engine.sleeper()
    seen = []
    for event in client.events(decode=True, since=since, filters={"container": name}):
        seen.append(event["Action"])
        if event["Action"] == "start":
            break
    assert seen == ["create", "start"]


def test_logs_stream_and_tail(engine: Engine) -> None:
    c = engine.client.containers.run("busybox", ["seq", "5"], detach=True)
    assert b"".join(c.logs(stream=True, follow=True)) == b"1\n2\n3\n4\n5\n"
    assert c.logs(tail=2) == b"4\n5\n"
    assert c.logs(timestamps=True, tail=1).split()[1] == b"5"


def test_images_by_the_api(engine: Engine) -> None:
    image = engine.client.images.get("busybox")
    assert image.tag("py/tagged", tag="v1")
    assert "py/tagged:v1" in engine.client.images.get("busybox").tags
    image.reload()
    saved = b"".join(image.save(named="py/tagged:v1"))
    engine.client.images.remove("py/tagged:v1")
    (loaded,) = engine.client.images.load(saved)
    assert loaded.id == image.id


def test_update_and_stats(engine: Engine) -> None:
    c = engine.client.containers.get(engine.sleeper())
    c.update(mem_limit="80m", memswap_limit="160m")
    stats = c.stats(stream=False)
    assert stats["memory_stats"]["limit"] == 80 << 20
    stream = c.stats(stream=True, decode=True)
    assert next(stream)["id"] == c.id
    stream.close()


def test_prune_and_df(engine: Engine) -> None:
    c = engine.client.containers.run("busybox", "true", detach=True)
    c.wait()
    assert c.id in engine.client.containers.prune()["ContainersDeleted"]
    assert engine.client.df()["Images"]


def test_many_containers_at_once(engine: Engine) -> None:
    """Parallel life cycles do not disturb each other, and all addresses differ."""
    found: list[str] = []
    failed: list[BaseException] = []

    def one(n: int) -> None:
        api = docker.APIClient(base_url=engine.host, version="1.41", timeout=60)
        try:
            ident = api.create_container("busybox", ["sleep", "1000"], name=f"many-{n}")["Id"]
            api.start(ident)
            facts = api.inspect_container(ident)["NetworkSettings"]["Networks"]["bridge"]
            found.append(facts["IPAddress"])
        except Exception as error:
            failed.append(error)
        finally:
            api.close()

    threads = [threading.Thread(target=one, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(set(found)) == 16


# the wire, below any client library


def raw(engine: Engine, method: str, path: str, **options: object) -> requests.Response:
    session = engine.client.api
    url = session.base_url + path
    return requests.Session.request(session, method, url, timeout=20, **options)  # type: ignore[arg-type]


def test_ping_reports_versions(engine: Engine) -> None:
    for method in ("GET", "HEAD"):
        answer = raw(engine, method, "/_ping")
        assert answer.status_code == 200
        assert answer.headers["Ostype"] == "linux"
        assert tuple(map(int, answer.headers["Api-Version"].split("."))) >= (1, 41)
    assert raw(engine, "GET", "/_ping").text == "OK"


def test_paths_with_and_without_a_version(engine: Engine) -> None:
    assert raw(engine, "GET", "/version").status_code == 200
    assert raw(engine, "GET", "/v1.24/version").status_code == 200
    high = raw(engine, "GET", "/v9.99/version")
    assert high.status_code == 400
    assert "too new" in high.json()["message"]
    assert raw(engine, "GET", "/nowhere").json() == {"message": "page not found"}


@unlike_reference("it still serves 1.12")
def test_a_version_that_is_too_old_is_refused(engine: Engine) -> None:
    old = raw(engine, "GET", "/v1.12/version")
    assert old.status_code == 400
    assert "too old" in old.json()["message"]


def test_error_bodies_are_json_with_a_message(engine: Engine) -> None:
    answer = raw(engine, "GET", "/containers/nosuch/json")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"message": "No such container: nosuch"}


@unlike_reference("answers 500")
def test_bad_bodies_are_the_client_s_fault(engine: Engine) -> None:
    head = {"Content-Type": "application/json"}
    assert raw(engine, "POST", "/containers/create", data="{", headers=head).status_code == 400
    wrong = json.dumps({"Image": ["a", "list"]})
    assert raw(engine, "POST", "/containers/create", data=wrong, headers=head).status_code == 400


def test_unknown_json_fields_are_ignored(engine: Engine) -> None:
    body = {"Image": "busybox", "Cmd": ["true"], "Flavour": "sweet", "HostConfig": {"Colour": 1}}
    answer = raw(engine, "POST", "/containers/create", json=body)
    assert answer.status_code == 201
    assert answer.json()["Warnings"] == [] or answer.json()["Warnings"] is None


def test_start_and_stop_twice_are_not_modified(engine: Engine) -> None:
    name = engine.sleeper()
    assert raw(engine, "POST", f"/containers/{name}/start").status_code == 304
    assert raw(engine, "POST", f"/containers/{name}/stop?t=0").status_code == 204
    assert raw(engine, "POST", f"/containers/{name}/stop").status_code == 304


@pytest.mark.parametrize(
    "path", ["/nodes", "/services", "/swarm", "/tasks", "/secrets", "/configs"]
)
def test_an_engine_without_swarm(engine: Engine, path: str) -> None:
    answer = raw(engine, "GET", path)
    assert answer.status_code == 503
    assert "not a swarm manager" in answer.json()["message"]


def test_inspect_can_be_posted_back_as_create(engine: Engine) -> None:
    """Watchtower's way of replacing a container."""
    old = engine.inspect(engine.sleeper("-e", "A=1", "-l", "x=y", "-p", "8300:80"))
    body = old["Config"] | {
        "HostConfig": old["HostConfig"],
        "NetworkingConfig": {"EndpointsConfig": {}},
    }
    engine.docker("rm", "-f", old["Id"])
    answer = raw(engine, "POST", f"/containers/create?name={fresh('twin')}", json=body)
    assert answer.status_code == 201, answer.text
    engine.docker("start", answer.json()["Id"])
    twin = engine.inspect(answer.json()["Id"])
    assert twin["Config"]["Env"] == old["Config"]["Env"]
    assert twin["NetworkSettings"]["Ports"] == old["NetworkSettings"]["Ports"]


def test_volumes(engine: Engine) -> None:
    client = engine.client
    made = client.volumes.create("vol", labels={"a": "b"})
    assert (made.name, made.attrs["Labels"]) == ("vol", {"a": "b"})
    assert [v.name for v in client.volumes.list(filters={"label": "a=b"})] == ["vol"]
    flags: dict[str, Any] = {"remove": True, "stdout": True}
    bound = {"vol": {"bind": "/v", "mode": "rw"}}
    client.containers.run("busybox", ["sh", "-c", "echo x >/v/x"], volumes=bound, **flags)
    mounted = [docker.types.Mount("/w", "vol", read_only=True)]
    assert client.containers.run("busybox", ["ls", "/w"], mounts=mounted, **flags) == b"x\n"
    client.volumes.get("vol").remove()
    with pytest.raises(docker.errors.NotFound):
        client.volumes.get("vol")
    assert client.volumes.prune()["SpaceReclaimed"] == 0
