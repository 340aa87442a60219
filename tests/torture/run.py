"""The survival experiment: undisturbed residents, a load, kills, and the leak oracle."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection
from dataclasses import dataclass

from tests import oracle
from tests.engine.daemon import Engine
from tests.torture.residents import Residents
from tests.torture.storm import Storm


@dataclass(frozen=True)
class Report:
    kills: int
    acknowledged: int  # requests
    probes: int  # pages fetched while the daemon died and came back
    lines: int  # logged meanwhile
    ready_median: float  # seconds from exec to the first answer
    ready_worst: float

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.acknowledged} requests acknowledged, {self.probes} pages"
            f" fetched, {self.lines} log lines, ready after {self.ready_median:.2f} s"
            f" (worst {self.ready_worst:.2f} s)"
        )


def survive(
    engine: Engine,
    kills: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, acknowledged: None,
    ignore: Collection[str] = (),
) -> Report:
    """Raises AssertionError (Unkept, or the oracle's list) at the first broken promise."""
    for network in ("bridge", "host"):  # what is made once, on first use, is no leak
        engine.run("--network", network, "busybox", "true")
    engine.clear()
    engine.forget_client()
    before = oracle.snapshot(engine)
    residents = Residents(engine)
    residents.start()
    try:
        storm = Storm(engine, seed)
        for done in range(1, kills + 1):
            storm.blow()
            progress(done, storm.acknowledged)
        storm.calm()
        seen = residents.check()
    finally:
        residents.stop()
    engine.clear()
    engine.forget_client()
    oracle.assert_clean(before, lambda: oracle.snapshot(engine), ignore=ignore)
    return Report(
        kills=kills,
        acknowledged=storm.acknowledged,
        probes=seen["tried"],
        lines=seen["lines"],
        ready_median=statistics.median(storm.restarts),
        ready_worst=max(storm.restarts),
    )
