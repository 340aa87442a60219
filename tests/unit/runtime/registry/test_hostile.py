"""Registries that lie, drip, redirect and ask for passwords: a clear error, in time, and no trace.

`hostile.py` has the table.  For each: the error, the time it may take, nothing in the store that
was not verified, no file left, no credential at another host nor in an error.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netkit.errors import NetkitError
from netkit.store import Database
from runtime import limits
from runtime.cancellation import Cancel, Cancelled
from runtime.events import EventBus
from runtime.images import blobs
from runtime.images.pulling import Login
from runtime.images.reference import parse
from runtime.images.store import ImageStore
from runtime.registry import connection
from runtime.registry.known import KnownBlobs
from runtime.registry.service import RegistryService
from runtime.registry.settings import RegistrySettings
from tests.unit.runtime.registry.hostile import CASES, Case, Place
from tests.unit.runtime.registry.scripted import Image, Server, dripping, reply

pytestmark = pytest.mark.slow
SECRET = "secret-word"
PUBLIC = "1.2.3.4"  # by it the registry is called in some cases; no packet goes there
SECONDS = 12


class Quiet(EventBus):
    def __init__(self) -> None:
        pass

    def emit(self, type: str, action: str, id: str, attributes: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONNECT", "ANSWER", "DOCUMENT", "COMMIT", "STALL"):
        monkeypatch.setattr(limits, f"REGISTRY_{name}_SECONDS", 0.4)


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place(Server(), Server("127.0.0.2"))
    made.hub.serve(made.image)
    made.other.answers["GET /blob"] = reply(200, made.image.blob)
    yield made
    made.hub.close()
    made.other.close()


class Client:
    """A daemon's client of registries.  The store is of all tests: to make one takes long."""

    def __init__(self, folder: Path) -> None:
        database = Database(folder / "db")
        self.store = ImageStore(folder / "images", database, lambda image: ())
        settings = RegistrySettings(
            certificates=folder / "none", logins=folder / "none.json", attempts=2, pause=0.01
        )
        self.service = RegistryService(self.store, KnownBlobs(database), Quiet(), settings)
        self.messages: list[dict[str, Any]] = []

    def trust(self, host: str) -> None:
        self.messages.clear()
        self.service.configure(replace(self.service.settings, insecure=(host,)))

    def empty(self) -> None:
        for image in self.store.all():
            self.store.remove(image.id, force=True, prune=True)
        with self.store.holding():
            pass  # sweeps

    def act(self, case: Case, name: str, cancel: Cancel | None = None) -> Any:
        login = Login(username="me", password=SECRET) if case.login else None
        with_login: Any = {
            "logins": lambda registry: login, "progress": self.messages.append,
            "cancel": cancel or Cancel(),
        }  # fmt: skip
        if case.act == "push":
            layer = Image().tar
            with self.store.blobs.writer() as blob:
                blob.write(layer)
                stored = blob.commit()
            with open(self.store.blobs.path(stored), "rb") as file:
                diff_id = self.store.layers.add(file)
            self.store.add(
                {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [diff_id]}},
                [stored], [parse(f"{name}:1")],
            )  # fmt: skip
            return self.service.push(parse(f"{name}:1"), every=False, **with_login)
        if case.act == "search":
            del with_login["progress"]
            return self.service.search(f"{name}", 25, **with_login)
        if case.act == "pull all":
            return self.service.pull_all(parse(name), **with_login)
        return self.service.pull(parse(f"{name}:1"), **with_login)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(tmp_path_factory.mktemp("registry"))


@pytest.fixture
def client(stored: Client, place: Place) -> Iterator[Client]:
    stored.trust(place.hub.name)
    yield stored
    stored.empty()
    check_store(stored, kept=False)


def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead a public address to loopback, beneath what the client knows."""
    real = connection._connected

    def connected(address: str, *more: Any) -> Any:
        return real("127.0.0.1" if address == PUBLIC else address, *more)

    monkeypatch.setattr(connection, "_connected", connected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace("_", " "))
def test_a_registry(
    case: Case, place: Place, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.script(place)
    host = place.hub.name
    if case.public:
        public(monkeypatch)
        host = f"{PUBLIC}:{place.hub.port}"
    client.trust(host)
    began, error = time.monotonic(), ""
    try:
        client.act(case, f"{host}/app")
    except NetkitError as raised:
        error = str(raised)
    assert time.monotonic() - began < SECONDS
    assert bool(error) == bool(case.error), error
    assert re.search(case.error, error, re.DOTALL), error
    assert error.isprintable(), error
    assert len(error) < 5000
    check_secret(error, place, client)
    check_store(client, kept=not error or case.act == "push")


def check_secret(error: str, place: Place, client: Client) -> None:
    """It is nowhere but in Authorization headers that the registry itself got."""
    encoded = base64.b64encode(f"me:{SECRET}".encode()).decode()
    for asked in place.other.asked:
        assert "authorization" not in asked.headers
        assert not any(word in asked.text for word in (SECRET, encoded))
    for asked in place.hub.asked:
        bare = asked.text.replace(asked.headers.get("authorization", "\0"), "")
        assert not any(word in bare for word in (SECRET, encoded))
    shown = error + repr(client.messages) + repr(client.service.settings)
    assert not any(word in shown for word in (SECRET, encoded, "tkn-3f2a"))


def check_store(client: Client, *, kept: bool) -> None:
    kept_blobs = client.store.blobs
    assert list(kept_blobs.incoming.iterdir()) == []
    assert list((client.store.layers.folder / "new").iterdir()) == []
    for path in kept_blobs.folder.iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    if not kept:
        assert client.store.all() == []
        assert list(kept_blobs.folder.iterdir()) == []
        assert client.store.layers.all() == set()


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 100
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_client_that_leaves_ends_the_pull_at_once(place: Place, client: Client) -> None:
    place.hub.answers[place.layer] = dripping(b"HTTP/1.1 200 X\r\n\r\n")
    cancel = Cancel()
    threading.Timer(0.3, cancel.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        client.act(Case("", lambda p: None, ""), f"{place.hub.name}/app", cancel)
    assert time.monotonic() - began < 0.95
    check_store(client, kept=False)


def test_a_disk_that_is_full_is_an_error_and_nothing_stays(
    place: Place, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    write = blobs.BlobWriter.write
    monkeypatch.setattr(blobs.BlobWriter, "write", full)
    with pytest.raises(NetkitError, match="no space left on device"):
        client.act(Case("", lambda p: None, ""), f"{place.hub.name}/app")
    monkeypatch.setattr(blobs.BlobWriter, "write", write)
    check_store(client, kept=False)
    client.act(Case("", lambda p: None, ""), f"{place.hub.name}/app")
