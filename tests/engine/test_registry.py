"""pull, push and what shows of registries, with Debian's docker-registry and skopeo beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine import registry, wire
from tests.engine.daemon import DOCKER, Engine, alone, fresh, netkit_only, unlike_reference
from tests.engine.registry import Registry

pytestmark = pytest.mark.skipif(bool(registry.lacking()), reason=registry.lacking())


@pytest.fixture(scope="module")
def hub(module_engine: Engine) -> Iterator[Registry]:
    made = Registry(module_engine.netns)
    yield made
    made.close()


def pushed(engine: Engine, hub: Registry, text: str = "") -> str:
    """A new image in the registry, of two layers where the CLI can tell them apart; its name."""
    name = f"{hub.name}/{fresh('team')}/app:1"
    engine.load_image(name, changes=[f"LABEL text={text or name}"])
    engine.docker("push", name)
    return name


def repository(name: str) -> str:
    return name.partition("/")[2].rpartition(":")[0]


def test_push_and_pull_as_dockerd_says_it(engine: Engine, hub: Registry) -> None:
    name = f"{hub.name}/team/{fresh('app')}:1"
    id = engine.load_image(name)
    first = engine.docker("push", name).stdout.splitlines()
    layer = engine.inspect(name)["RootFS"]["Layers"][0].removeprefix("sha256:")[:12]
    assert first[0] == f"The push refers to repository [{name.rpartition(':')[0]}]"
    assert f"{layer}: Pushed" in first
    assert first[-1].startswith("1: digest: sha256:")
    digest, size = first[-1].split()[2], int(first[-1].split()[4])
    raw = hub.curl(f"/v2/{repository(name)}/manifests/{digest}")
    assert raw is not None
    assert size == len(raw)
    assert json.loads(raw)["mediaType"].startswith("application/vnd.docker.distribution.manifest")
    assert f"{layer}: Layer already exists" in engine.docker("push", name).stdout
    assert engine.inspect(name)["RepoDigests"] == [f"{name.rpartition(':')[0]}@{digest}"]

    gone = engine.docker("rmi", name).stdout.splitlines()
    assert gone[:2] == [f"Untagged: {name}", f"Untagged: {name.rpartition(':')[0]}@{digest}"]
    pulled = engine.docker("pull", name).stdout.splitlines()
    assert pulled[0] == f"1: Pulling from {repository(name)}"
    assert pulled[-3:] == [
        f"Digest: {digest}", f"Status: Downloaded newer image for {name}", name
    ]  # fmt: skip
    assert engine.inspect(name)["Id"] == id
    assert engine.run(name, "echo", "hi") == "hi"
    again = engine.docker("pull", name).stdout.splitlines()
    assert again[-2] == f"Status: Image is up to date for {name}"


@netkit_only("after a push it asks for the manifest once more")
def test_requests_are_those_of_dockerd(engine: Engine, hub: Registry) -> None:
    name = pushed(engine, hub)
    repo = repository(name)
    before = len(hub.requests())
    engine.docker("push", name)
    asked = [line.partition("?")[0] for line in hub.requests()[before:]]
    assert [line.split()[0] for line in asked] == ["GET", "HEAD", "HEAD", "PUT"]
    engine.docker("pull", name)
    assert hub.requests()[-2:] == ["GET /v2/", f"HEAD /v2/{repo}/manifests/1"]
    engine.docker("rmi", name)
    before = len(hub.requests())
    engine.docker("pull", name)
    asked = hub.requests()[before:]
    assert asked[:2] == ["GET /v2/", f"HEAD /v2/{repo}/manifests/1"]
    assert asked[2].startswith(f"GET /v2/{repo}/manifests/sha256:")
    assert len([line for line in asked if "/blobs/sha256:" in line]) == 2


def test_a_layer_is_mounted_from_another_repository(engine: Engine, hub: Registry) -> None:
    name = pushed(engine, hub)
    other = f"{hub.name}/other/{fresh('app')}:1"
    engine.docker("tag", name, other)
    assert f"Mounted from {repository(name)}" in engine.docker("push", other).stdout
    assert hub.tags(repository(other)) == ["1"]


def test_all_tags_are_pushed_and_pulled(engine: Engine, hub: Registry) -> None:
    name = pushed(engine, hub)
    repo = name.rpartition(":")[0]
    engine.load_image(f"{repo}:2", changes=["LABEL two=2"])
    engine.docker("push", "-q", "-a", repo)
    assert hub.tags(repository(name)) == ["1", "2"]
    engine.docker("rmi", f"{repo}:1", f"{repo}:2")
    engine.docker("pull", "-q", "-a", repo)
    assert set(engine.out("images", "--format", "{{.Tag}}", repo).split()) == {"1", "2"}


def test_a_digest_is_pulled_run_listed_and_removed(engine: Engine, hub: Registry) -> None:
    name = pushed(engine, hub)
    (digest,) = engine.inspect(name)["RepoDigests"]
    engine.docker("rmi", name)
    assert engine.run(digest, "echo", "hi") == "hi"
    assert engine.out("images", "--digests", "--format", "{{.Tag}} {{.Digest}}", digest) == (
        f"<none> {digest.partition('@')[2]}"
    )
    assert engine.docker("rmi", digest).stdout.splitlines()[0] == f"Untagged: {digest}"
    assert engine.docker("inspect", digest, check=False).returncode == 1


def test_an_image_that_was_made_here_has_no_digest(engine: Engine) -> None:
    assert engine.inspect("busybox")["RepoDigests"] == []


def test_what_the_registry_lacks(engine: Engine, hub: Registry) -> None:
    name = f"{hub.name}/{fresh('none')}"
    done = engine.docker("pull", name, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        f"Error response from daemon: manifest for {name}:latest not found: manifest unknown: "
        "manifest unknown\n",
    )
    done = engine.docker("push", name, check=False)
    assert done.stderr == f"An image does not exist locally with the tag: {name}\n" or (
        f"An image does not exist locally with the tag: {name}" in done.stderr
    )
    done = engine.docker("pull", "127.0.0.1:1/x", check=False)
    assert "dial tcp 127.0.0.1:1: connect: connection refused" in done.stderr


@netkit_only("dockerd keeps the wrong platform")
def test_an_index_is_pulled_for_a_platform(engine: Engine, hub: Registry, tmp_path: Path) -> None:
    name = pushed(engine, hub)
    repo = name.rpartition(":")[0]
    layout = tmp_path / "oci"
    copied = hub.skopeo("copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{layout}:x")
    assert copied.returncode == 0, copied.stderr
    raw = hub.curl(
        f"/v2/{repository(name)}/manifests/1", "-H",
        "Accept: application/vnd.docker.distribution.manifest.v2+json",
    )  # fmt: skip
    digest = engine.inspect(name)["RepoDigests"][0].partition("@")[2]
    assert raw is not None
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifests": [
            {"mediaType": kind, "size": len(raw), "digest": digest,
             "platform": {"os": "linux", "architecture": machine}}
            for machine in ("amd64", "arm64")
        ],
    }  # fmt: skip
    file = tmp_path / "index"
    file.write_text(json.dumps(index))
    hub.curl(
        f"/v2/{repository(name)}/manifests/many", "-X", "PUT", "-H",
        f"Content-Type: {index['mediaType']}", "--data-binary", f"@{file}",
    )  # fmt: skip
    engine.docker("rmi", name)
    engine.docker("pull", f"{repo}:many")
    (shown,) = engine.inspect(f"{repo}:many")["RepoDigests"]
    assert shown != f"{repo}@{digest}"  # the index's
    done = engine.docker("pull", "--platform", "linux/s390x", f"{repo}:many", check=False)
    assert "no matching manifest for linux/s390x in the manifest list entries" in done.stderr


def test_skopeo_reads_what_was_pushed(engine: Engine, hub: Registry, tmp_path: Path) -> None:
    name = pushed(engine, hub)
    target = tmp_path / "image"
    done = hub.skopeo("copy", "--src-tls-verify=false", f"docker://{name}", f"dir:{target}")
    assert done.returncode == 0, done.stderr
    (layer,) = json.loads((target / "manifest.json").read_text())["layers"]
    with tarfile.open(target / layer["digest"].removeprefix("sha256:")) as tar:
        assert "bin/busybox" in tar.getnames()


@unlike_reference("zstd")
def test_layers_in_zstd_and_plain_are_pulled(engine: Engine, hub: Registry, tmp_path: Path) -> None:
    archive = tmp_path / "saved.tar"
    archive.write_bytes(
        subprocess.run(
            ["docker", "-H", engine.host, "save", "busybox"], check=True, capture_output=True,
            timeout=60,
        ).stdout
    )  # fmt: skip
    for form in ("zstd", "gzip"):
        name = f"{hub.name}/{fresh(form)}:1"
        done = hub.skopeo(
            "copy", "--insecure-policy", "--dest-tls-verify=false", "--format=oci",
            f"--dest-compress-format={form}", f"docker-archive:{archive}", f"docker://{name}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        engine.docker("pull", name)
        assert engine.run(name, "echo", form) == form
        engine.docker("tag", name, f"{name}-again")
        engine.docker("push", f"{name}-again")  # as it was pulled, not compressed anew
        assert hub.skopeo("inspect", "--tls-verify=false", f"docker://{name}-again").returncode == 0


def logged_in(engine: Engine, server: str, password: str = "secret") -> int:
    return engine.docker(
        "login", "-u", "me", "--password-stdin", server, input=password, check=False
    ).returncode


@netkit_only("its certificates are in /etc/docker")
def test_a_registry_with_tls_and_a_password(tmp_path: Path) -> None:
    config = tmp_path / "daemon.json"
    config.write_text(json.dumps({"insecure-registries": []}))
    with alone("--config", str(config)) as engine:
        engine.load_image()
        hub = Registry(
            engine.netns, 5443, tls=True, password="me:secret", address=wire.HOST
        )  # fmt: skip
        try:
            name = f"{hub.name}/team/app:1"
            engine.docker("tag", "busybox", name)
            done = engine.docker("push", name, check=False)
            assert "tls: failed to verify certificate" in done.stderr
            certificates = tmp_path / "certs.d" / hub.name
            certificates.mkdir(parents=True)
            (certificates / "ca.crt").write_bytes(hub.ca.read_bytes())
            done = engine.docker("push", name, check=False)
            assert "no basic auth credentials" in done.stderr
            assert logged_in(engine, hub.name, "wrong") == 1
            assert logged_in(engine, hub.name) == 0
            engine.docker("push", name)
            engine.docker("rmi", name)
            engine.netkit("pull", "-q", name)
            engine.netkit("logout", hub.name)
            assert engine.docker("pull", name, check=False).returncode == 1
            done = engine.netkit(
                "login", "-u", "me", "--password-stdin", hub.name, input="wrong\n", check=False
            )
            assert "401 Unauthorized" in done.stderr
            done = engine.netkit("login", "-u", "me", "--password-stdin", hub.name, input="secret")
            assert done.stdout == "Login Succeeded\n"
            assert engine.docker("pull", "-q", name).returncode == 0
        finally:
            hub.close()


@netkit_only("of dockerd the log is another")
def test_a_hangup_reloads_mirrors_and_labels_and_a_bad_file_changes_nothing(
    tmp_path: Path,
) -> None:
    config = tmp_path / "daemon.json"
    config.write_text(json.dumps({"labels": ["a=b"]}))
    with alone("--config", str(config)) as engine:
        hub = Registry(engine.netns)
        try:
            engine.load_image(f"{hub.name}/library/only:1")
            engine.docker("push", f"{hub.name}/library/only:1")
            engine.docker("rmi", f"{hub.name}/library/only:1")
            config.write_text(json.dumps({
                "labels": ["c=d"], "registry-mirrors": [f"http://{hub.name}"], "mtu": 1400,
            }))  # fmt: skip
            since = str(time.time())
            os.kill(engine.pid, signal.SIGHUP)
            await_info(engine, lambda info: info["Labels"] == ["c=d"])
            info = json.loads(engine.out("info", "--format", "{{json .}}"))
            assert info["RegistryConfig"]["Mirrors"] == [f"http://{hub.name}/"]
            assert "reload: mtu needs a restart of netkitd" in engine.log_tail()
            engine.docker("pull", "only:1")  # of docker.io, which is not there: from the mirror
            (event,) = [
                json.loads(line)
                for line in engine.out(
                    "events", "--since", since, "--until", str(time.time()), "--filter",
                    "event=reload", "--format", "{{json .}}",
                ).splitlines()
            ]  # fmt: skip
            assert event["Type"] == "daemon"
            assert event["Actor"]["Attributes"]["labels"] == '["c=d"]'
            config.write_text("{")
            os.kill(engine.pid, signal.SIGHUP)
            deadline = time.monotonic() + 20
            while "the configuration stays as it is" not in engine.log_tail():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert json.loads(engine.out("info", "--format", "{{json .Labels}}")) == ["c=d"]
        finally:
            hub.close()


def await_info(engine: Engine, true: Callable[[dict[str, Any]], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true(json.loads(engine.out("info", "--format", "{{json .}}"))):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@netkit_only("dockerd waits 15 s")
def test_a_mirror_that_drops_packets_costs_seconds(tmp_path: Path) -> None:
    config = tmp_path / "daemon.json"
    mirrors = [f"http://{wire.NEIGHBOUR}:81", "http://127.0.0.1:5000"]
    config.write_text(json.dumps({"registry-mirrors": mirrors}))
    with alone("--config", str(config)) as engine:
        hub = Registry(engine.netns)
        try:
            engine.docker("tag", "busybox", f"{hub.name}/library/only:1")
            engine.docker("push", f"{hub.name}/library/only:1")
            block = ["iptables", "-A", "INPUT", "-p", "tcp", "-j", "DROP"]
            assert wire.run(engine.wire.neighbour, *block).returncode == 0
            began = time.monotonic()
            engine.docker("pull", "only:1")
            assert 1 < time.monotonic() - began < 5
        finally:
            hub.close()


def test_netkit_says_what_docker_says(engine: Engine, hub: Registry) -> None:
    name = pushed(engine, hub)
    for command in (["pull", name], ["push", name], ["pull", f"{name}-none"], ["push", "-q", name],
                    ["pull", "-q", name], ["pull", "-a", name], ["push", f"{name}-none"],
                    ["search", f"{hub.name}/x"]):  # fmt: skip
        theirs, ours = (
            run(*command, check=False) for run in (engine.docker, engine.netkit)
        )  # fmt: skip
        assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout), command
        assert plain(ours.stderr) == plain(theirs.stderr), command


def plain(text: str) -> str:
    """Without what docker adds about itself, and netkit's name."""
    return "\n".join(line for line in text.splitlines() if line and "--help" not in line)


@netkit_only("of docker the client itself asks the registry")
def test_manifests_are_shown(engine: Engine, hub: Registry) -> None:
    name = pushed(engine, hub)
    shown = json.loads(engine.netkit("manifest", "inspect", name).stdout)
    assert shown["schemaVersion"] == 2
    whole = json.loads(engine.netkit("manifest", "inspect", "-v", name).stdout)
    assert whole["Descriptor"]["platform"] == {"architecture": "amd64", "os": "linux"}
    assert whole["SchemaV2Manifest"] == shown
    found = engine.client.api.inspect_distribution(name)
    assert found["Descriptor"]["digest"] == whole["Descriptor"]["digest"]
    assert found["Platforms"] == [{"architecture": "amd64", "os": "linux"}]


def test_an_image_that_is_not_here_is_pulled_as_the_flag_says(
    engine: Engine, hub: Registry
) -> None:
    name = pushed(engine, hub)
    engine.docker("rmi", name)
    for run in (engine.docker, engine.netkit):
        never = run("run", "--rm", "--pull", "never", name, "true", check=False)
        assert never.returncode == 125
        assert "No such image" in never.stderr
        missing = run("run", "--rm", name, "echo", "hi")
        assert missing.stdout == "hi\n"
        assert f"Unable to find image '{name}' locally" in missing.stderr
        assert "Status: Downloaded newer image" in missing.stderr
        always = run("run", "--rm", "--pull", "always", name, "echo", "hi")
        assert always.stdout == "hi\n"
        assert "Image is up to date" in always.stderr
        container = run("create", "-q", name).stdout.strip()
        engine.docker("rm", container)
        engine.docker("rmi", name)
    assert f"pull access denied for {name}" not in engine.docker(
        "run", "--rm", f"{name}-none", check=False
    ).stderr


def test_pulls_of_one_image_at_a_time_share_its_layers(engine: Engine, hub: Registry) -> None:
    name = pushed(engine, hub)
    engine.docker("rmi", name)
    before = len(hub.requests())
    clients = [
        subprocess.Popen(
            [DOCKER, "-H", engine.host, "pull", "-q", name], stdout=subprocess.PIPE,
            env=engine.cli_environment(),
        )
        for _ in range(5)
    ]  # fmt: skip
    for client in clients:
        assert client.communicate(timeout=60)[0] == f"{name}\n".encode()
    (layer,) = [
        entry["digest"] for entry in json.loads(
            engine.netkit("manifest", "inspect", name).stdout)["layers"]
    ] if engine.kind == "netkitd" else [""]  # fmt: skip
    fetched = [line for line in hub.requests()[before:] if layer and layer in line]
    assert len(fetched) <= 1
    assert engine.run(name, "echo", "hi") == "hi"


@netkit_only("it finds the layer in the image that was pushed")
def test_docker_py_pulls_and_pushes_with_progress(engine: Engine, hub: Registry) -> None:
    name = pushed(engine, hub)
    repo, _, tag = name.rpartition(":")
    engine.docker("rmi", name)
    lines = list(engine.client.api.pull(repo, tag=tag, stream=True, decode=True))
    assert lines[0] == {"status": f"Pulling from {repository(name)}", "id": "1"}
    done = [line["status"] for line in lines if line.get("id") and line["id"] != "1"]
    assert done[0] == "Pulling fs layer"
    assert done[-1] == "Pull complete"
    assert {"Verifying Checksum", "Download complete"} <= set(done)
    pushed_again = list(engine.client.api.push(repo, tag=tag, stream=True, decode=True))
    (aux,) = [line["aux"] for line in pushed_again if "aux" in line]
    assert (aux["Tag"], aux["Digest"]) == ("1", lines[-2]["status"].partition(" ")[2])
    assert engine.client.images.pull(repo, tag=tag).tags == [name]


def test_from_pulls_what_is_not_here(engine: Engine, hub: Registry, tmp_path: Path) -> None:
    name = pushed(engine, hub)
    engine.docker("rmi", name)
    (tmp_path / "Dockerfile").write_text(f"FROM {name}\nLABEL built=here\n")
    built = subprocess.run(
        [DOCKER, "-H", engine.host, "build", "-t", "built:1", str(tmp_path)],
        env={**engine.cli_environment(), "DOCKER_BUILDKIT": "0"}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert f"Pulling from {repository(name)}" in built.stdout
    assert engine.inspect("built:1")["Config"]["Labels"]["built"] == "here"
