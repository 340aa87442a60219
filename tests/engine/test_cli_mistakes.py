"""What `netkit` says to mistakes people make, beside the stock docker CLI on the same engine."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.cli.app import run
from tests.engine.daemon import Engine, netkit_only

LINES = """
build --platform foo ctx
build --nope ctx
build --network nope -q ctx
build --shm-size x ctx
build --squash ctx
build
build a b
build nodir
build ctx -f nofile
build -t A:b ctx
build -t 'a b' ctx
build -t '' ctx
build -
build http://
buildx build ctx
image build -q ctx
pull 'A B'
pull A
pull ''
pull a:b:c
pull -a busybox:latest
pull busybox@sha256:1
pull 'busybox:'
push 'A B'
push ''
push A
push -a busybox:latest
push busybox@sha256:0000000000000000000000000000000000000000000000000000000000000000
save ''
save -o x.tar ''
save -o nodir/x.tar busybox
save
save 'A B'
load -i nofile.tar
load -i ctx
load -i ctx/Dockerfile
rmi ''
rmi 'A B'
rmi A
rmi
rmi busybox
tag '' x
tag busybox ''
tag busybox A
tag busybox 'a b'
tag busybox x:y:z
tag nosuch x
tag busybox a@sha256:0000000000000000000000000000000000000000000000000000000000000000
history ''
history
image inspect ''
image inspect A
inspect ''
image prune -x
image rm nosuch other
images a b
images -f nope=x
images -f dangling=maybe
images -f dangling
import nofile.tar
import ctx/Dockerfile
import -c 'FOO x' ctx/Dockerfile
import
commit nosuch x
commit idle A
commit idle 'a b'
commit -c 'RUN x' idle x
commit -c 'FOO' idle
commit
commit a b c
manifest inspect 'A B'
manifest inspect ''
search --limit x x
logout a b
volume create a b
volume create '-x'
volume create 'a b'
volume create a
volume create -d nope v1
volume create -o foo=bar v1
volume create -o type=nfs v1
volume create -o foo v1
volume rm ''
volume rm
volume rm data
volume rm 'a b'
volume inspect
volume inspect ''
volume ls x
volume ls -f nope=x
volume ls -f dangling=x
volume prune -f --filter nope=x
volume prune -f --filter all=x
volume foo
volume create --label
network rm ''
network rm bridge
network rm back
network rm
network create
network create back
network create -d nope x
network create --subnet 10.99.0.0/24 x
network connect back
network connect nosuch web
network connect back web
network connect --ip 10.98.0.1 back idle
network disconnect back idle
network disconnect nosuch web
run -v a:b:c:d busybox true
run -v 'a b:/x' busybox true
run -v :/x busybox true
run -v /x:y busybox true
run -v a:/x:foo busybox true
run -v nosuch:rel busybox true
run --mount type=foo,dst=/x busybox true
run --mount dst=/x busybox true
run --mount type=bind,src=/nosuch,dst=/x busybox true
run --mount type=volume,src=a,dst=x busybox true
run --mount type=bind,dst=/x busybox true
run --mount src=a busybox true
run --mount type=tmpfs,src=a,dst=/x busybox true
run --volumes-from nosuch busybox true
run --volumes-from web:foo busybox true
run --tmpfs x busybox true
run -p foo busybox true
run -p 99999:80 busybox true
run --pull foo busybox true
run --platform foo busybox true
run ''
run
run A
run 'a b'
run busybox nosuchcmd
run busybox /tmp
run --nope busybox
run --name web busybox true
run --name 'a b' busybox true
run -e busybox
run --rm --restart always busybox true
run -d --rm
run --network nosuch busybox true
run --entrypoint nosuch busybox
run --user nosuch busybox true
run -w rel busybox true
run --memory 1 busybox true
run --memory x busybox true
run --cpus x busybox true
run --env-file nofile busybox true
run --label-file nofile busybox true
run --cidfile /nosuch/x busybox true
run --add-host foo busybox true
run --dns x busybox true
run --ulimit x busybox true
run --device nosuch busybox true
run --log-driver nope busybox true
run --restart foo busybox true
run --stop-signal FOO busybox true
run --expose x busybox true
run --health-interval x busybox true
run --link nosuch busybox true
run --sysctl foo busybox true
cp
cp a
cp a b
cp web:/nosuch .
cp web:/etc/passwd /nosuch/dir/
cp nofile web:/tmp
cp web:/a idle:/b
cp nosuch:/a .
exec web
exec
exec nosuch true
exec idle true
exec -u nosuch web true
exec -w /nosuch web true
exec -it web true
logs
logs --tail x web
logs --since x web
rename web idle
rename web 'a b'
rename web
image foo
""".strip().splitlines()

# Where netkit has words of its own, and which.
OWN_WORDS = {
    "build http://": 'error downloading remote context http://: Get "http://": http: no Host',
    "buildx build ctx": "there is no BuildKit here: use `netkit build`",
    "commit": "requires at least 1 argument; usage: netkit commit",
    "commit a b c": "requires at most 2 arguments; usage: netkit commit",
    "cp nofile web:/tmp": "lstat nofile: no such file or directory",
    "cp web:/etc/passwd /nosuch/dir/": "no such directory: /nosuch/dir/",
    "load -i ctx": "open ctx: is a directory",
    "logs --since x web": "invalid time 'x': use a duration",
    "run --expose x busybox true": "invalid range format for --expose: x, error: invalid port: x",
    "run --platform foo busybox true": "platform foo is not available: this engine runs",
    "run -v a:b:c:d busybox true": "invalid spec: a:b:c:d: too many colons",
}


@pytest.fixture(scope="module")
def made(session_engine: Engine) -> Iterator[Engine]:
    engine = session_engine
    engine.clear()
    engine.docker("network", "create", "--subnet", "10.99.0.0/24", "back")
    engine.docker("volume", "create", "data")
    engine.docker("run", "-d", "--name", "web", "--network", "back", "-v", "data:/d", "busybox",
                  "sleep", "100000")  # fmt: skip
    engine.docker("create", "--name", "idle", "busybox", "true")
    yield engine
    engine.clear()


@netkit_only("it is about netkit's client")
@pytest.mark.parametrize("line", LINES)
def test_mistakes_are_answered_as_by_dockers_client(
    line: str, made: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "ctx").mkdir()
    (tmp_path / "ctx" / "Dockerfile").write_text("FROM busybox\n")
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)
    theirs = made.docker(*words, check=False)
    capfd.readouterr()
    code = run(["-H", made.host, *words])
    out, err = capfd.readouterr()
    assert (code, out) == (theirs.returncode, theirs.stdout)
    expected = OWN_WORDS.get(line, _first(theirs.stderr))
    assert expected.replace("docker", "netkit").lower() in err.lower()
    assert err.count("\n") <= max(1, theirs.stderr.strip().count("\n") + 1)


def _first(err: str) -> str:
    """The line that says what is wrong, without the program's name."""
    text = err.partition("environment-variable.\n")[2] or err
    line = text.strip().split("\n")[0]
    return line.removeprefix("docker: ").removeprefix("Error: ")
