"""Projects of three services with docker-compose 1.29 (Debian 12's) and compose v2 (Debian 13's).

Up, one service changed and made anew, down: what every user of compose does all day; once with
images that are there, once with images that are built, networks, a volume, a secret and a port.
Version 1 speaks an API of 2017 (1.21 to 1.38 by the file's version) and reads `ContainerConfig`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.engine import wire
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

# Three tiers: only `app` is on both networks.  {word} is built into the image of `app`.
TIERS = """
version: "3.7"
services:
  db:
    build: db
    stop_grace_period: 1s
    networks: [back]
    volumes: ["data:/store"]
    secrets: [password]
  app:
    build:
      context: app
      args: {{WORD: {word}}}
    image: nkproject/app
    stop_grace_period: 1s
    depends_on: [db]
    networks: [front, back]
    secrets: [password]
  web:
    build: web
    stop_grace_period: 1s
    depends_on: [app]
    networks: [front]
    ports: ["127.0.0.1:18080:80"]
networks:
  front: {{}}
  back: {{internal: true}}
volumes:
  data: {{}}
secrets:
  password: {{file: password.txt}}
"""
CGI = """#!/bin/sh
echo
"""
FILES = {
    "password.txt": "a secret\n",
    "db/Dockerfile": """
FROM busybox
COPY start.sh /
RUN mkdir /store && echo seed >/store/rows
CMD ["sh", "/start.sh"]
""",
    "db/start.sh": "echo start >>/store/rows\nexec httpd -f -h /store -p 5432\n",
    "app/Dockerfile": """
FROM busybox AS made
ARG WORD
RUN echo "$WORD" >/word
FROM busybox
COPY --from=made /word /word
COPY page /www/cgi-bin/page
CMD ["httpd", "-f", "-h", "/www", "-p", "8000"]
""",
    "app/page": CGI + "cat /word /run/secrets/password\nwget -qO- http://db:5432/rows\n",
    "web/Dockerfile": """
FROM busybox
COPY page /www/cgi-bin/page
EXPOSE 80
CMD ["httpd", "-f", "-h", "/www"]
""",
    "web/page": CGI + "wget -qO- http://app:8000/cgi-bin/page\n",
}


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

    def write(self, word: str, project: str = PROJECT) -> None:
        (self._folder / "docker-compose.yml").write_text(project.format(word=word))

    def write_tiers(self, word: str) -> None:
        """The project that is built, with its contexts."""
        self.write(word, TIERS)
        for name, text in FILES.items():
            path = self._folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text.lstrip())
            path.chmod(0o755)

    def run(self, *args: str) -> str:
        done = subprocess.run(
            [*self._program, "-p", "nkproject", *args],
            cwd=self._folder,
            env={
                **self._engine.cli_environment(),
                "DOCKER_HOST": self._engine.host,
                "DOCKER_BUILDKIT": "0",  # the classic builder ...
                "COMPOSE_DOCKER_CLI_BUILD": "0",  # ... by the API of the daemon
            },
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

    def page(self) -> list[str]:
        """Return the lines of the published page, once it is served."""
        curl = ["curl", "-sS", "--retry", "20", "--retry-connrefused", "--retry-delay", "1"]
        done = subprocess.run(
            wire.inside(self._engine.netns, *curl, "http://127.0.0.1:18080/cgi-bin/page"),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\n")[:-1]


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


@pytest.mark.slow
@pytest.mark.parametrize("program", [_version_1, _version_2], ids=["v1", "v2"])
def test_a_project_is_built_and_has_networks_a_volume_a_secret_and_a_port(
    engine: Engine, program: Callable[[], list[str]], folder: Path
) -> None:
    project = Project(engine, program(), folder)
    project.write_tiers("one")
    project.run("up", "-d", "--build")
    first = project.ids()
    assert set(first) == {"db", "app", "web"}
    # the page of web, which has that of app, which has the volume of db: seed is the image's
    assert project.page() == ["one", "a secret", "seed", "start"]
    assert not engine.docker("exec", first["web"], "nslookup", "db", check=False).stdout.count(
        "172."
    )
    assert "a secret" in engine.out("exec", first["db"], "cat", "/run/secrets/password")

    project.run("up", "-d", "--build")  # from the cache: nothing has changed
    assert project.ids() == first

    project.write_tiers("two")
    project.run("up", "-d", "--build")
    second = project.ids()
    assert second["app"] != first["app"]
    assert second["db"] == first["db"]
    assert project.page() == ["two", "a secret", "seed", "start"]

    project.run("down")
    assert project.ids() == {}
    assert "nkproject_data" in engine.out("volume", "ls", "-q")
    project.run("up", "-d")
    assert project.page() == ["two", "a secret", "seed", "start", "start"]

    project.run("down", "-v", "--rmi", "all")
    assert engine.client.api.containers(all=True) == []
    assert "nkproject" not in engine.out("network", "ls")
    assert "nkproject" not in engine.out("volume", "ls")
    assert "nkproject" not in engine.out("images")
