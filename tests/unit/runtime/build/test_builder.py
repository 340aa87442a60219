"""The parts of the builder that need no containers: cache, output and results of stages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netkit.errors import InvalidSpec, NotFound
from netkit.store import Database
from runtime import limits
from runtime.build.builder import _with_the_same_beginning
from runtime.build.cache import StepCache, step_key
from runtime.build.cache_from import NamedCaches, restored
from runtime.build.errors import BuildFailed
from runtime.build.images import check_platform
from runtime.build.output import Section, Transcript
from runtime.build.results import StageResults
from runtime.cancellation import Cancel, Cancelled
from runtime.dockerfile.parser import parse
from runtime.dockerfile.stages import plan
from runtime.images.model import Image, ImageConfig


def image(id: str, steps: int = 1, layers: int = 1, **document: Any) -> Image:
    history = [{"created": f"2024-01-0{n + 1}T00:00:00Z", "created_by": f"step {n}",
                **({} if n < layers else {"empty_layer": True})} for n in range(steps)]  # fmt: skip
    diff_ids = [f"sha256:{n:064x}" for n in range(layers)]
    return Image(
        id=id, tags=(), digests=(), created="", size=0, config=ImageConfig(),
        layers=tuple(diff_ids),
        document={"history": history, "rootfs": {"diff_ids": diff_ids}, "os": "linux", **document},
    )  # fmt: skip


class Images:
    """Images by id, with the id of what each was made from."""

    def __init__(self, parents: dict[str, str]) -> None:
        self.parents = parents

    def find(self, ref: str) -> Image:
        if ref not in self.parents:
            raise NotFound(ref)
        return image(ref)

    def parent(self, id: str) -> str:
        return self.parents.get(id, "")


def test_the_key_of_a_step_is_what_its_result_depends_on() -> None:
    command, config = ["/bin/sh", "-c", "#(nop) ", "ENTRYPOINT"], {"Cmd": ["a"], "Image": "x"}
    key = step_key("p", command, config, "")
    assert step_key("p", command, {"Cmd": ["a"], "Image": "y", "User": ""}, "") == key
    others = [
        step_key("q", command, config, ""), step_key("p", [*command, "x"], config, ""),
        step_key("p", command, {"Cmd": None}, ""), step_key("p", command, config, "someone"),
        step_key("p", ["/bin/sh -c", *command[2:]], config, ""),
    ]  # fmt: skip
    assert len({key, *others}) == 6


def test_only_images_that_are_here_and_have_the_parent_are_found(tmp_path: Path) -> None:
    images = Images({"a": "p", "s": ""})
    cache = StepCache(Database(tmp_path / "db"), images)
    cache.add("k", "old")
    cache.add("k", "a")
    cache.add("scratch", "s")
    assert cache.find("k", "p") == "a"
    assert cache.find("k", "other") == ""
    assert cache.find("nothing", "p") == ""
    assert cache.find("scratch", "") == "s"
    images.parents = {"a": ""}  # it came back by `load`
    assert (cache.find("k", "p"), cache.find("scratch", "")) == ("", "")


def test_rows_of_images_that_are_no_more_go(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    cache = StepCache(database, Images({}))
    cache.add("k", "a")
    cache.add("l", "b")
    cache.forget_all_but(["b"])
    assert [row["key"] for row in database.rows("SELECT key FROM build_step")] == ["l"]


def test_named_caches_are_followed_step_by_step() -> None:
    target = image("t", steps=3, layers=2)
    caches = NamedCaches([image("u", steps=1, layers=1), target], {"t": "b", "b": "a"}.get)  # type: ignore[arg-type]
    below = image("b", steps=1).document
    assert caches.match(below, ["other"]) is None
    assert caches.match(below, ["step", "1"]) == (target, 2)
    assert caches.match(target.document, ["step", "3"]) is None  # it has no more
    assert caches.match(image("x", steps=1, layers=0).document, ["step", "1"]) is None


def test_an_image_with_the_first_steps_of_another() -> None:
    target = image("t", steps=3, layers=2, architecture="amd64", docker_version="1")
    document, layers = restored(target, 2, {"Env": ["a=1"]}, "someone")
    assert layers == 2
    assert document["history"] == target.document["history"][:2]
    assert document["created"] == "2024-01-02T00:00:00Z"
    assert (document["config"], document["author"]) == ({"Env": ["a=1"]}, "someone")
    assert "docker_version" not in document


def test_a_later_stage_is_shown_when_its_turn_has_come() -> None:
    sent: list[Any] = []
    first = Section(sent.append, Cancel(), open=True)
    second = Section(sent.append, Cancel(), open=False)
    second.text("two")
    first.text("one")
    second.begin()
    second.error_text("three")
    assert [m["stream"] for m in sent] == ["one", "two", "\x1b[91mthree\x1b[0m"]


def test_a_stage_that_says_too_much_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BUILD_OUTPUT_BYTES", 150)
    sent: list[Any] = []
    cancel = Cancel()
    section = Section(sent.append, cancel, open=False)
    done: list[str] = []

    def work() -> None:
        for n in range(4):
            section.text(str(n) * 10)
        done.append("all")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(0.02)
    assert not done
    section.begin()
    thread.join(10)
    assert [m["stream"][0] for m in sent] == ["0", "1", "2", "3"]
    stuck = Section(sent.append, cancel, open=False)
    stuck.text("x" * 100)
    cancel.set()
    with pytest.raises(Cancelled):
        stuck.text("more")


def test_a_quiet_build_keeps_the_end_of_what_it_would_show(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "BUILD_OUTPUT_BYTES", 250)
    transcript, sent = Transcript(), list[Any]()
    for n in range(5):
        transcript({"stream": str(n)})
    transcript({"aux": {"ID": "x"}})
    transcript.replay(sent.append)
    assert [m["stream"] for m in sent] == ["3", "4"]


def test_stages_are_found_by_name_and_number_before_oneself() -> None:
    results = StageResults(["one", "", "one"], Cancel())
    results.finish(0, "sha256:a")
    results.finish(1, "")
    assert results.named("ONE", 1) == results.get("0", 2) == "sha256:a"
    assert results.get("1", 2) == ""
    assert results.named("one", 0) is None
    assert results.get("image", 2) is None
    for number, message in (("2", "refers to current build stage"), ("3", "index out of bounds"),
                            ("-1", "index out of bounds")):  # fmt: skip
        with pytest.raises(BuildFailed) as caught:
            results.get(number, 2)
        assert str(caught.value) == message
    results.fail(0)
    with pytest.raises(Cancelled):
        results.named("one", 1)


def test_a_stage_waits_for_those_whose_first_step_it_shares() -> None:
    text = (
        "FROM x\nRUN a\nFROM y\nRUN a\nFROM x\nRUN  a\nFROM x\nRUN b\nFROM x\n"
        "FROM x\nRUN b\nFROM x\nRUN a"
    )
    found = plan(parse(text.encode()))
    same = _with_the_same_beginning(found, cache=True)
    assert same == [set(), set(), {0}, set(), {3}, {3, 4}, {2, 4}]
    assert _with_the_same_beginning(found, cache=False) == [set()] * 7


def after(seconds: float, act: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def test_a_step_that_two_stages_have_is_made_by_the_earlier_one() -> None:
    results = StageResults(["", ""], Cancel())
    assert results.claim("k", 0)
    after(0.02, lambda: results.release("k", 0))
    assert not results.claim("k", 1)  # after waiting for it
    assert results.claim("k", 1)
    assert results.claim("k", 0)  # the earlier one does not wait for the later one
    results.release("k", 1)
    after(0.02, lambda: results.release("k", 0))
    assert not results.claim("k", 1)


@pytest.mark.parametrize(("given", "platform"), [
    ("linux/arm64", "linux/arm64"),
    ("Linux/arm/v7", "linux/arm/v7"), ("linux", "linux"), ("arm64", "linux/arm64"),
])  # fmt: skip
def test_platforms(given: str, platform: str) -> None:
    assert check_platform(given) == platform


@pytest.mark.parametrize(("given", "message"), [
    ("bogus", '"bogus": unknown operating system or architecture: invalid argument'),
    ("", '"" is an invalid component of ""'), ("linux/", '"" is an invalid component of "linux/"'),
    ("a/b/c/d", "cannot parse platform specifier"),
])  # fmt: skip
def test_bad_platforms(given: str, message: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        check_platform(given)
    assert message in str(caught.value)


def test_what_is_to_be_done_on_cancelling_is_done_once() -> None:
    above = Cancel()
    cancel, calls = Cancel(above), list[str]()
    with cancel.calling(lambda: calls.append("left")):
        pass
    done = threading.Event()

    def act() -> None:
        calls.append("set")
        done.set()

    with cancel.calling(act):
        above.set()
        assert done.wait(10)
    with cancel.calling(lambda: calls.append("late")):
        pass
    assert calls == ["set", "late"]
    begin = time.monotonic()
    with pytest.raises(Cancelled):
        cancel.wait(5)
    assert time.monotonic() - begin < 1
