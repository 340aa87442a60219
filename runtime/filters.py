"""Filters of `prune` that several kinds of objects have in common, and results.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from netkit.errors import InvalidSpec
from netkit.timestamps import epoch_ns, parse_time


class PrunedContainers(NamedTuple):
    ids: list[str]
    freed: int  # bytes


class PrunedImages(NamedTuple):
    removed: list[dict[str, str]]  # {"Untagged": name} or {"Deleted": id}
    freed: int  # bytes


class PrunedVolumes(NamedTuple):
    names: list[str]
    freed: int  # bytes


class PrunedNetworks(NamedTuple):
    names: list[str]
    warnings: list[str]  # for each reason why some stay, a line


class PruneFilter:
    """`extra`: names of filters for one kind of object only.  InvalidSpec for unknown ones."""

    def __init__(self, filters: Filters, extra: Collection[str] = ()) -> None:
        if unknown := set(filters) - {"until", "label", "label!", *extra}:
            raise InvalidSpec(f"Invalid filter '{sorted(unknown)[0]}'")
        self._limits = [parse_time(text) for text in filters.get("until", ())]
        self._with = filters.get("label", ())
        self._without = filters.get("label!", ())

    def matches(self, created: str, labels: Mapping[str, str] | None) -> bool:
        """Does an object match: old enough (`created` in RFC 3339), and with the labels?"""

        def has(text: str) -> bool:
            key, eq, value = text.partition("=")
            return labels is not None and key in labels and (not eq or labels[key] == value)

        return (
            all(epoch_ns(created) / 1e9 < limit for limit in self._limits)
            and all(map(has, self._with))
            and not any(map(has, self._without))
        )


Filters = Mapping[str, Sequence[str]]  # {"label": ["a=b"], "status": ["exited"]}
