"""Images made of containers: commit, with both command lines and the API."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from tests import hostile
from tests.engine import image
from tests.engine.daemon import Engine, fresh


def test_a_commit_is_what_the_container_changed(engine: Engine, folder: Path) -> None:
    (folder / "mounted").write_text("outside")
    box = engine.up(
        "-v", f"{folder}:/vol", "busybox", "sh", "-c",
        "mkdir -p /n/m; echo x >/n/f; ln /n/f /n/g; rm /etc/group; chmod 700 /root;"
        "echo y >/vol/g; touch /tmp/t; rm /tmp/t; sleep 100000",
    )  # fmt: skip
    engine.wait_for_output(box, "")
    for _ in range(100):
        if engine.docker("exec", box, "test", "!", "-e", "/tmp/t", check=False).returncode == 0:
            break
    name = fresh("made")
    ident = engine.out("commit", "-a", "me", "-m", "by hand", box, name)
    shown = engine.inspect(ident)
    assert shown["Author"] == "me"
    assert shown["Comment"] == "by hand"
    assert shown["Parent"] == engine.inspect("busybox")["Id"]
    found = engine.run(
        name, "sh", "-c", "ls -A /vol /n; cat /n/g; stat -c %a /root; ls /etc/group; true"
    )
    assert found.split() == [
        "/n:", "f", "g", "m", "/vol:", "x", "700",
    ]  # fmt: skip
    ids = engine.out("history", "-q", "--no-trunc", name).split()
    assert ids[:2] == [ident, shown["Parent"]]


def test_a_running_container_goes_on_and_tells(engine: Engine) -> None:
    box = engine.sleeper()
    since = str(time.time() - 1)
    name = fresh("made")
    ident = engine.netkit("commit", "-c", "CMD [\"echo\", \"hi\"]", "-c", "LABEL a=b", box,
                          f"{name}:2").stdout.strip()  # fmt: skip
    assert engine.state(box)["Status"] == "running"
    assert engine.run(f"{name}:2") == "hi"
    lines = engine.out("events", "--since", since, "--until", str(time.time()), "--filter",
                       f"container={box}", "--format", "{{json .}}").splitlines()  # fmt: skip
    events = [json.loads(line) for line in lines]
    assert [e["Action"] for e in events if "exec" not in e["Action"]][-3:] == [
        "pause", "unpause", "commit",
    ]  # fmt: skip
    assert events[-1]["Actor"]["Attributes"]["imageID"] == ident
    assert events[-1]["Actor"]["Attributes"]["imageRef"] == f"{name}:2"


def test_what_is_wrong_is_said_before_anything_is_done(engine: Engine) -> None:
    box = engine.sleeper()
    before = engine.out("images", "-aq")
    for words, reason in (
        (("-c", "RUN x", box), "run is not a valid change command"),
        ((box, "UPPER"), "invalid reference format: repository name"),
        (("nosuch",), "No such container: nosuch"),
        ((box, f"x@sha256:{'a' * 64}"), "refusing to create a tag with a digest reference"),
    ):
        for line in (engine.docker, engine.netkit):
            done = line("commit", *words, check=False)
            assert done.returncode != 0
            assert reason in done.stderr
    assert engine.out("images", "-aq") == before


def test_an_image_committed_from_is_kept_for_its_children(engine: Engine) -> None:
    name, base = fresh("made"), fresh("base")
    engine.load_image(base, changes=[f"LABEL own={base}"])
    box = engine.up(base, "sleep", "100000")
    engine.out("commit", box, name)
    engine.docker("rm", "-f", box)
    parent = engine.inspect(base)["Id"]
    assert engine.out("rmi", base) == f"Untagged: {base}:latest"
    done = engine.docker("rmi", "-f", parent, check=False)
    assert "image has dependent child images" in done.stderr
    shown = engine.out("images", "-q", "--no-trunc")
    assert parent not in shown
    assert parent in engine.out("images", "-aq", "--no-trunc")
    assert f"Deleted: {parent}" in engine.out("rmi", name)


def test_removal_waits_for_no_commit_and_nothing_half_done_is_kept(engine: Engine) -> None:
    script = "mkdir /many; cd /many; seq 1000 | xargs touch; echo done; sleep 100000"
    box = engine.up("busybox", "sh", "-c", script)
    engine.wait_for_output(box, "done")
    results = []
    thread = threading.Thread(
        target=lambda: results.append(engine.docker("commit", box, fresh("made"), check=False))
    )
    thread.start()
    engine.docker("rm", "-f", box)
    thread.join()
    if results[0].returncode:
        words = ("No such container", "removed while", "being removed")
        assert any(word in results[0].stderr for word in words)
    else:
        assert len(engine.run(results[0].stdout.strip(), "ls", "/many").split()) == 1000


def test_an_image_of_as_many_layers_as_can_be_runs_and_is_not_added_to(engine: Engine) -> None:
    name = fresh("deep")
    files = [hostile.tar([hostile.entry(f"layers/{number}")]) for number in range(124)]
    engine.out("load", input=hostile.as_image([image.rootfs(), *files], f"{name}:1"))
    box = engine.up(f"{name}:1", "sh", "-c", "ls /layers | wc -l; sleep 100000")
    engine.wait_for_output(box, "124")
    done = engine.docker("commit", box, name, check=False)
    assert done.stderr.strip() == "Error response from daemon: max depth exceeded"
