"""Read all sources, one after the other; one that fails is left out, and reported as failed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from netkit import threads
from runtime.metrics.exposition import Rendered, Standard, families
from runtime.metrics.figures import Figures, Source, by, one


class Collection:
    """`sources` by the part of `netkit_scrape_failed`; called by one thread at a time."""

    def __init__(
        self, sources: Mapping[str, Source], now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._sources = dict(sources)
        self._now = now
        self._standard = Standard()
        self._errors: dict[str, str] = {}  # what was reported of each part

    def __call__(self) -> Rendered:
        return Rendered([*families(self.figures().values()), *self._standard.collect()])

    def figures(self) -> dict[str, Figures]:
        """By name of the series."""
        found: dict[str, Figures] = {}
        durations: dict[str, float] = {}
        failed: dict[str, float] = {}
        for part, source in self._sources.items():
            begin = self._now()
            try:
                for figures in list(source()):
                    _merge(found, figures)
                self._errors.pop(part, None)
                failed[part] = 0
            except Exception as error:  # noqa: BLE001  the other parts are served
                if self._errors.get(part) != str(error):  # once until it is another one, or over
                    threads.report(f"reading metrics of {part}", error)
                self._errors[part] = str(error)
                failed[part] = 1
            durations[part] = self._now() - begin
        _merge(found, one("process_threads", len(os.listdir("/proc/self/task"))))
        _merge(found, by("netkit_scrape_duration_seconds", durations))
        _merge(found, by("netkit_scrape_failed", failed))
        return found


def _merge(found: dict[str, Figures], figures: Figures) -> None:
    """Add values; parts may have values of one series, by other labels."""
    name = figures.series.name
    if (before := found.get(name)) is not None:
        figures = replace(figures, values={**before.values, **figures.values})
    found[name] = figures
