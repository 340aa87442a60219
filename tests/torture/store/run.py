"""The three experiments on a store: kills, power cuts, a full disk."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.engine.daemon import Engine
from tests.engine.registry import Registry
from tests.engine.wire import Wire
from tests.torture.store import check
from tests.torture.store.disk import Disk
from tests.torture.store.ledger import Ledger
from tests.torture.store.load import FAVOURITES, Client, filled, published

CLIENTS = len(FAVOURITES)
WINDOW = 1.2  # seconds in which the instant of a round lies
SMALL = 64 << 20  # bytes of a disk that gets full
Say = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    rounds: int
    acknowledged: int
    refused: int
    checked: int  # images and volumes that were read
    hit: Counter[str]  # by kind of request: rounds in which the event fell into one

    def __str__(self) -> str:
        hit = ", ".join(f"{kind} {count}" for kind, count in sorted(self.hit.items()))
        return (
            f"{self.rounds} rounds, {self.acknowledged} requests acknowledged, {self.refused} "
            f"refused, {self.checked} images and volumes read: nothing lost, nothing orphaned; "
            f"rounds that fell into a request of a kind: {hit}"
        )


class Load:
    """The clients of one engine; the ledger goes on from round to round."""

    def __init__(self, engine: Engine, rng: random.Random) -> None:
        self.ledger = Ledger()
        self.hit: Counter[str] = Counter()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self.clients = [
            Client(engine, n, random.Random(rng.getrandbits(64)), self.ledger)
            for n in range(CLIENTS)
        ]

    def start(self) -> None:
        self._over.clear()
        self._threads = [
            threading.Thread(target=c.work, args=(self._over,)) for c in self.clients
        ]
        for thread in self._threads:
            thread.start()

    def cut_off(self) -> None:
        """What fails from here on is the engine's end."""
        self._over.set()
        before = self.ledger.copy()
        self.hit.update(before.through(before))

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a request never ended"
        if failures := [f for c in self.clients for f in c.failures]:
            raise check.Broken("; ".join(failures))


@contextmanager
def _engine(size: int | None = None) -> Iterator[tuple[Engine, Disk]]:
    wire = Wire.lay()
    try:
        engine = Engine(wire)
        try:
            with (
                closing(Registry(wire.host)),
                Disk(engine.root, *([size] if size else [])) as disk,
            ):
                published(wire.host, CLIENTS)
                try:
                    engine.start()
                    engine.load_image()
                    filled(engine)
                    yield engine, disk
                except BaseException as error:
                    error.add_note(engine.log_tail())
                    raise
                finally:
                    engine.destroy()
        finally:
            engine.destroy()
    finally:
        wire.remove()


def kills(count: int, rng: random.Random, say: Say) -> Report:
    checked = 0
    with _engine() as (engine, _):
        load = Load(engine, rng)
        for n in range(count):
            load.start()
            time.sleep(rng.random() * WINDOW)
            load.cut_off()
            engine.kill9()
            load.stop()
            engine.restart()
            checked += check.check(engine, load.ledger.copy(), rng)
            _progress(say, n, load)
        _nothing_left(engine)
        return _report(count, load, checked)


def cuts(count: int, rng: random.Random, say: Say) -> Report:
    checked = 0
    with _engine() as (engine, disk):
        load = Load(engine, rng)
        try:
            for n in range(count):
                load.start()
                time.sleep(rng.random() * WINDOW)
                before = load.ledger.copy()
                copy = disk.copy()
                later = load.ledger.copy()
                settled = before.settled(later)
                load.hit.update(before.through(later))
                load.stop()  # it would only take the time of the check
                with _booted(disk, copy) as other:
                    checked += check.check(other, settled, rng)
                    if n % 20 == 0:
                        _nothing_left(other)
                _progress(say, n, load)
        finally:
            load.stop()
        return _report(count, load, checked)


@contextmanager
def _booted(disk: Disk, copy: Path) -> Iterator[Engine]:
    """An engine on the copy, on a host that was booted meanwhile."""
    wire = Wire.lay("nk-u")
    try:
        other = Engine(wire, boot=str(uuid.uuid4()))
        try:
            with disk.mounted(copy, other.root):
                try:
                    other.start()
                    yield other
                finally:
                    other.stop()
        finally:
            other.destroy()
    finally:
        wire.remove()


def fills(count: int, rng: random.Random, say: Say) -> Report:
    checked = 0
    with _engine(SMALL) as (engine, _):
        load = Load(engine, rng)
        for client in load.clients:
            client.full_allowed = True
        ballast = engine.root / "ballast"
        for n in range(count):
            load.start()
            time.sleep(rng.random() * WINDOW / 4)
            refused = load.ledger.copy().refused
            _fill(ballast)
            time.sleep(WINDOW / 2)
            try:
                load.stop()
            finally:
                ballast.unlink()
            load.hit.update((load.ledger.refused - refused).keys())
            checked += check.check(engine, load.ledger.copy(), rng)
            if n % 20 == 19:
                engine.kill9()
                engine.restart()
                checked += check.check(engine, load.ledger.copy(), rng)
            _progress(say, n, load)
        assert load.hit, "the disk was never full"
        _nothing_left(engine)
        return _report(count, load, checked)


def _fill(path: Path) -> None:
    try:
        with path.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
    except OSError:
        return


def _nothing_left(engine: Engine) -> None:
    engine.clear(keep_images=())
    engine.docker("system", "prune", "-a", "-f", "--volumes")
    engine.docker("volume", "prune", "-f")
    for volume in engine.docker("volume", "ls", "-q").stdout.split():
        engine.docker("volume", "rm", volume)
    if left := check.orphans(engine):
        raise check.Broken(f"nothing refers to {', '.join(left[:20])}")
    engine.forget_client()


def _progress(say: Say, n: int, load: Load) -> None:
    if (n + 1) % 20 == 0:
        say(f"  {n + 1}: {load.ledger.acknowledged} acknowledged")


def _report(count: int, load: Load, checked: int) -> Report:
    ledger = load.ledger
    return Report(count, ledger.acknowledged, ledger.refused.total(), checked, load.hit)
