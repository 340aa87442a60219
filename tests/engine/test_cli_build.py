"""`netkit build` with an engine: every kind of context, and the same by docker's client."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engine.daemon import Engine, netkit, netkit_only
from tests.engine.wire import inside
from tests.unit.runtime.build.trees import packed

pytestmark = [pytest.mark.root, pytest.mark.engine]
netkits = netkit_only("of netkit's client")
FROM = "FROM busybox\nCOPY f /f\nRUN cat /f\n"


@pytest.fixture
def tree(folder: Path) -> Path:
    (folder / "tree").mkdir()
    (folder / "tree" / "Dockerfile").write_text(FROM)
    (folder / "tree" / "f").write_text("content\n")
    return folder / "tree"


@netkits
def test_a_folder_is_built_and_tagged(engine: Engine, tree: Path) -> None:
    file = tree / "id"
    done = engine.netkit("build", "-t", "cli:1", "-t", "cli", "--iidfile", str(file), str(tree))
    assert done.stdout.startswith("Sending build context to Docker daemon ")
    assert "\nStep 3/3 : RUN cat /f\n" in done.stdout
    assert done.stdout.endswith("Successfully tagged cli:1\nSuccessfully tagged cli:latest\n")
    assert done.stderr == ""
    id = file.read_text()
    assert engine.netkit("build", "-q", str(tree)).stdout == f"{id}\n"
    assert engine.netkit("inspect", "-f", "{{.Id}}", "cli").stdout == f"{id}\n"
    assert "Using cache" in engine.docker("build", str(tree)).stdout  # the other client's context


@netkits
def test_the_exit_code_is_that_of_the_command(engine: Engine, tree: Path) -> None:
    (tree / "Dockerfile").write_text("FROM busybox\nRUN exit 42\n")
    failed = engine.netkit("build", str(tree), check=False)
    assert (failed.returncode, failed.stderr) == (
        42, "The command '/bin/sh -c exit 42' returned a non-zero code: 42\n",
    )  # fmt: skip
    failed = engine.netkit("build", "-t", "Bad Name", str(tree), check=False)
    assert (failed.returncode, failed.stderr.count("\n")) == (125, 1)


@pytest.mark.parametrize("client", ["docker", pytest.param("netkit", marks=netkits)])
def test_a_dockerfile_may_come_from_elsewhere(engine: Engine, tree: Path, client: str) -> None:
    other = tree.parent / "other"
    other.write_text("FROM busybox\nCOPY . /all\nRUN ls -A /all\n")
    call = getattr(engine, client)
    for done in (
        call("build", "--no-cache", "-f", str(other), str(tree)),
        call("build", "--no-cache", "-f", "-", str(tree), input=other.read_text()),
    ):
        assert "\nDockerfile\nf\n" in done.stdout.replace("\r", "")
    done = call("build", "-", input="FROM busybox\nRUN echo alone\n")
    assert "\nalone\n" in done.stdout
    done = call("build", "-", input=packed({"Dockerfile": FROM, "f": "packed\n"}))
    assert "\npacked\n" in done.stdout


@netkits
def test_what_dockerignore_names_is_not_sent(engine: Engine, tree: Path) -> None:
    (tree / ".dockerignore").write_text("*\n!f\n")
    (tree / "secret").write_text("secret")
    (tree / "Dockerfile").write_text("FROM busybox\nCOPY . /all\nRUN ls -A /all\n")
    assert "\nf\nRemoving" in engine.netkit("build", "--no-cache", str(tree)).stdout


def _page(netns: str, folder: Path, port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        inside(netns, sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"),
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _repositories(netns: str, folder: Path, port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        inside(netns, "git", "daemon", "--export-all", f"--base-path={folder}", f"--port={port}",
               "--listen=127.0.0.1", "--informative-errors"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


@contextmanager
def serving(engine: Engine, process: subprocess.Popen[bytes], port: int) -> Iterator[None]:
    try:
        look = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)"
        deadline = time.monotonic() + 20
        while subprocess.run(
            inside(engine.netns, sys.executable, "-c", look), capture_output=True, check=False
        ).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


@netkits
def test_contexts_of_the_web_and_of_repositories(engine: Engine, tree: Path) -> None:
    top = tree.parent
    (top / "ctx.tar").write_bytes(packed({"Dockerfile": FROM, "f": "of the web\n"}))
    (top / "df").write_text("FROM busybox\nRUN echo alone\n")
    work, git = top / "work", ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    (work / "sub").mkdir(parents=True)
    shutil.copytree(tree, work, dirs_exist_ok=True)
    shutil.copytree(tree, work / "sub", dirs_exist_ok=True)
    (work / "sub" / "f").write_text("of a folder\n")
    for argv in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *argv], cwd=work, check=True)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=work, check=True, capture_output=True, text=True
    ).stdout.strip()
    (work / "f").write_text("newer\n")
    subprocess.run([*git, "commit", "-qam", "two"], cwd=work, check=True)
    subprocess.run(["git", "clone", "-q", "--bare", "work", "bare.git"], cwd=top, check=True)
    subprocess.run(["git", "update-server-info"], cwd=top / "bare.git", check=True)

    def built(url: str) -> str:
        return engine.netkit("build", "--no-cache", url).stdout

    with serving(engine, _page(engine.netns, top, 18081), 18081):
        assert "\nof the web\n" in built("http://127.0.0.1:18081/ctx.tar")
        assert "\nalone\n" in built("http://127.0.0.1:18081/df")
        assert "\nnewer\n" in built("http://127.0.0.1:18081/bare.git#main")
    with serving(engine, _repositories(engine.netns, top, 18082), 18082):
        assert "\nnewer\n" in built("git://127.0.0.1:18082/bare.git")
        assert "\nof a folder\n" in built("git://127.0.0.1:18082/bare.git#main:sub")
        assert "\ncontent\n" in built(f"git://127.0.0.1:18082/bare.git#{commit}")
        for bad in ("#nosuch", "#main:nosuch", "#main:../.."):
            failed = engine.netkit("build", f"git://127.0.0.1:18082/bare.git{bad}", check=False)
            assert failed.returncode == 1
            assert "Error response from daemon: error " in failed.stderr


@netkits
def test_nothing_of_a_context_is_left(own_engine: Engine, tree: Path) -> None:
    (tree / "Dockerfile").write_text("FROM busybox\nCOPY f /f\nRUN sleep 60\n")
    building = subprocess.Popen(
        [*netkit(), "-H", own_engine.host, "build", str(tree)],
        stdout=subprocess.PIPE, env=own_engine.cli_environment(), text=True,
    )  # fmt: skip
    assert building.stdout is not None
    assert any("Step 3/3" in line for line in building.stdout)
    folder = own_engine.root / "builds"
    assert len(os.listdir(folder)) == 1
    own_engine.kill9()
    building.wait()
    building.stdout.close()
    own_engine.start()
    deadline = time.monotonic() + 20
    while os.listdir(folder):
        assert time.monotonic() < deadline
        time.sleep(0.05)
