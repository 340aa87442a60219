"""A project of three services with docker-compose 1.29 (Debian 12's) and compose v2 (Debian 13's).

Up, one service changed and made anew, down: what every user of compose does all day.  Version 1
speaks an API of 2017 (1.21 to 1.38 by the file's version) and reads `ContainerConfig`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.engine.daemon import Engine

UNPACKED = Path(__file__).parents[2] / ".compose"
UNPACKED_2 = Path(__file__).parents[2] / ".compose2"

PROJECT = """
version: "2.4"
services:
  db:
    image: busybox
    command: ["sleep", "100000"]
    stop_grace_period: 1s
    volumes: ["/anonymous"]
  web:
    image: busybox
    command: ["sh", "-c", "echo {word} >/www/word; exec httpd -f -h /www -p 80"]
    stop_grace_period: 1s
    depends_on: [db]
    networks:
      default:
        aliases: [front]
  world:
    image: busybox
    command: ["sleep", "100000"]
    stop_grace_period: 1s
    depends_on: [web]
"""


def _version_1() -> list[str]:
    python = UNPACKED / "usr/lib/python3/dist-packages"
    program = UNPACKED / "usr/bin/docker-compose"
    if program.exists():
        return ["env", f"PYTHONPATH={python}", "/usr/bin/python3", "-s", str(program)]
    found = shutil.which("docker-compose")
    if not found:
        pytest.skip("needs docker-compose 1.29: script/compose unpacks Debian's")
    return [found]


def _version_2() -> list[str]:
    """Return the program of NETKIT_TEST_COMPOSE, the unpacked one, or the docker CLI's plugin."""
    for given in (os.environ.get("NETKIT_TEST_COMPOSE"), UNPACKED_2 / "usr/bin/docker-compose"):
        if given and Path(given).exists():
            return [str(given)]
    docker = shutil.which("docker")
    there = (
        docker
        and not subprocess.run(
            [docker, "compose", "version"], capture_output=True, check=False
        ).returncode
    )
    if not there:
        why = os.environ.get("NETKIT_TEST_COMPOSE_ABSENT", "")
        pytest.skip(f"needs compose v2, as `script/compose v2` unpacks it; {why or 'it was not'}")
    return [str(docker), "compose"]


class Project:
    def __init__(self, engine: Engine, program: Sequence[str], folder: Path) -> None:
        self._engine, self._program, self._folder = engine, program, folder

    def write(self, word: str) -> None:
        (self._folder / "docker-compose.yml").write_text(PROJECT.format(word=word))

    def run(self, *args: str) -> str:
        done = subprocess.run(
            [*self._program, "-p", "nkproject", *args],
            cwd=self._folder,
            env={**self._engine.cli_environment(), "DOCKER_HOST": self._engine.host},
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, f"{args}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
        return done.stdout + done.stderr

    def ids(self) -> dict[str, str]:
        """Return ids of the running containers, by service."""
        api = self._engine.client.api
        label = "com.docker.compose.service"
        running = api.containers(filters={"label": "com.docker.compose.project=nkproject"})
        assert all(c["State"] == "running" for c in running)
        return {c["Labels"][label]: c["Id"] for c in running}

    def word(self) -> str:
        """Return what `web` answers to `world`, by its alias."""
        return self._engine.out("exec", self.ids()["world"], "wget", "-qO-", "http://front/word")


@pytest.mark.slow
@pytest.mark.parametrize("program", [_version_1, _version_2], ids=["v1", "v2"])
def test_a_project_goes_up_changes_and_goes_down(
    engine: Engine, program: Callable[[], list[str]], folder: Path
) -> None:
    project = Project(engine, program(), folder)
    project.write("one")
    project.run("up", "-d")
    first = project.ids()
    assert set(first) == {"db", "web", "world"}
    assert project.word() == "one"

    project.run("up", "-d")  # nothing has changed
    assert project.ids() == first

    project.write("two")
    project.run("up", "-d")
    second = project.ids()
    assert second["web"] != first["web"]
    assert second["db"] == first["db"]
    assert project.word() == "two"
    assert set(second) == set(first)

    project.run("up", "-d", "--force-recreate")
    third = project.ids()
    assert not set(third.values()) & set(second.values())
    assert project.word() == "two"

    project.run("down")
    assert project.ids() == {}
    assert engine.client.api.containers(all=True) == []
    assert "nkproject" not in engine.out("network", "ls")
