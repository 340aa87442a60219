"""The registry of resource types: one line makes a new kind read, changed and scanned for."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

import netkit.model
from netkit.errors import KernelError
from netkit.kernel.adapter import Adapter, Registry
from netkit.kernel.host import Host
from netkit.kernel.netlink.codec import Tally
from netkit.kernel.session import Session
from netkit.model import HOST, Key, Link, Resource, State
from netkit.reconcile.converge import Change, converge, ownership
from netkit.reconcile.plan import Op
from netkit.testing.kernel import FakeKernel

MINE = ownership("e1", "/run/none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(Resource):
    """A toy resource: a file with a line of text, whose first word is its owner."""

    carries_owner: ClassVar[bool] = True
    mutable: ClassVar[frozenset[str]] = frozenset({"text"})
    name: str
    text: str

    @property
    def key(self) -> Key:
        return ("note", self.name)

    def describe(self) -> str:
        return f"note {self.name}"


class Notes:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def adapter(self) -> Adapter:
        return Adapter(
            types=(Note,), kinds=frozenset({"note"}), observe=self.observe, apply=self.apply,
            owned=lambda session, prefix: {
                k: r for k, r in self.observe(session, self._keys()).items()
                if (r.owner or "").startswith(prefix)
            },
        )  # fmt: skip

    def _keys(self) -> list[Key]:
        return [("note", p.name) for p in self._folder.iterdir()]

    def observe(self, _session: Session, keys: Sequence[Key]) -> dict[Key, Resource]:
        out: dict[Key, Resource] = {}
        for key in keys:
            if (self._folder / key[1]).exists():
                owner, _, text = (self._folder / key[1]).read_text().partition(" ")
                out[key] = Note(name=key[1], text=text, owner=owner)
        return out

    def apply(self, _session: Session, ops: Sequence[Op]) -> None:
        for done, op in enumerate(ops):
            r = op.subject
            assert isinstance(r, Note)
            if r.text == "forbidden":
                raise KernelError("no", done=done)
            if op.after is None:
                (self._folder / r.name).unlink()
            else:
                (self._folder / r.name).write_text(f"{r.owner} {r.text}")


class Kernel:
    """A netkit.reconcile.converge.Kernel of nothing but a registry."""

    def __init__(self, *adapters: Adapter) -> None:
        self.registry = Registry(adapters)

    def observe(self, keys: Sequence[Key]) -> State:
        with Session(HOST, Tally()) as session:
            return self.registry.observe(session, keys)

    def owned(self, prefix: str, *, policy: bool = False) -> State:
        with Session(HOST, Tally()) as session:
            return self.registry.owned(session, prefix, policy=policy)

    def apply(self, ops: Sequence[Op]) -> None:
        with Session(HOST, Tally()) as session:
            self.registry.apply(session, ops)


def note(name: str, text: str = "hello") -> Note:
    return Note(name=name, text=text, owner="netkit:e1:global")


@pytest.fixture(params=["registry", "fake"])
def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Kernel | FakeKernel:
    return FakeKernel() if request.param == "fake" else Kernel(Notes(tmp_path).adapter())


def test_a_new_kind_is_made_changed_found_and_removed(kernel: Kernel | FakeKernel) -> None:
    one, two, other = note("one"), note("two"), note("one", "changed")
    converge(Change.of({r.key: r for r in (one, two)}), kernel, MINE)
    assert kernel.observe([one.key, two.key, ("note", "none")]) == {one.key: one, two.key: two}
    converge(Change.of({other.key: other}), kernel, MINE)
    assert kernel.observe([one.key]) == {one.key: other}
    assert kernel.owned("netkit:e1:").keys() == {one.key, two.key}
    assert kernel.owned("netkit:e1:", policy=True) == {}
    converge(Change.of({}, {r.key: r for r in (other, two)}), kernel, MINE)
    assert kernel.owned("netkit:") == {}


def test_what_fails_halfway_says_how_many_steps_of_all_families_are_done(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Memo(Note):
        @property
        def key(self) -> Key:
            return ("memo", self.name)

    notes, memos = Notes(first).adapter(), Notes(second)
    kernel = Kernel(notes, Adapter(types=(Memo,), kinds=frozenset({"memo"}),
                                   observe=memos.observe, apply=memos.apply))  # fmt: skip
    steps = [Op(None, note("a")), Op(None, note("b")), Op(None, Memo(name="c", text="x")),
             Op(None, Memo(name="d", text="forbidden"))]  # fmt: skip
    with pytest.raises(KernelError) as failure:
        kernel.apply(steps)
    assert failure.value.done == 3
    assert sorted(p.name for p in first.iterdir()) == ["a", "b"]


def test_a_kind_that_is_not_registered_is_refused(tmp_path: Path) -> None:
    kernel = Kernel(Notes(tmp_path).adapter())
    with pytest.raises(KernelError, match="this host cannot have a Link"):
        kernel.apply([Op(None, Link(name="x", kind="dummy"))])


def test_two_adapters_of_one_type_or_kind_are_refused(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    with pytest.raises(ValueError, match="two adapters of Note"):
        Registry((notes.adapter(), notes.adapter()))

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Memo(Note):
        pass

    again = Adapter(types=(Memo,), kinds=frozenset({"note"}), observe=notes.observe,
                    apply=notes.apply)  # fmt: skip
    with pytest.raises(ValueError, match="two adapters of keys note"):
        Registry((notes.adapter(), again))


def test_one_that_looks_around_is_shown_the_keys_that_name_namespaces(tmp_path: Path) -> None:
    shown: list[Key] = []

    def observe(_session: Session, keys: Sequence[Key]) -> dict[Key, Resource]:
        shown.extend(sorted(keys))
        return {}

    def adapter(type_: type[Resource], kind: str, **flags: bool) -> Adapter:
        return Adapter(
            types=(type_,), kinds=frozenset({kind}), observe=observe, apply=lambda s, ops: None,
            **flags,
        )  # fmt: skip

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Placed(Note):
        pass

    links = adapter(Link, "link", looks_around=True, placed=True)
    kernel = Kernel(links, adapter(Placed, "placed", placed=True), adapter(Note, "note"))
    kernel.observe([("link", "", "a"), ("placed", "/ns", "b"), ("note", "c")])
    assert shown[:2] == [("link", "", "a"), ("placed", "/ns", "b")]
    shown.clear()
    kernel.observe([("placed", "/ns", "b")])
    assert shown == [("placed", "/ns", "b")]


def test_the_host_has_an_adapter_of_every_kind_of_resource_in_the_model() -> None:
    names = [m.name for m in pkgutil.iter_modules(netkit.model.__path__, "netkit.model.")]
    things = [thing for name in names for thing in vars(importlib.import_module(name)).values()]
    types = {t for t in things if isinstance(t, type) and issubclass(t, Resource)} - {Resource}
    assert len(types) > 15
    host = Host()
    try:
        for type_ in types:
            op = Op(None, object.__new__(type_))
            assert type_ in host._registry._of(op).types
    finally:
        host.close()
