"""Filter and sort images for `docker images`.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from netkit.errors import NotFound
from netkit.timestamps import epoch_ns
from runtime.api.json.filter_containers import labelled
from runtime.api.query import filter_flag, moment
from runtime.images.model import Image

FILTERS = frozenset({"dangling", "label", "before", "since", "reference", "until"})


def select(
    images: Iterable[Image], filters: Mapping[str, list[str]], now: float, *, all: bool = False
) -> list[Image]:
    """Filter images, newest first.  `all`: also those without a name that others were made from."""
    newest_first = sorted(images, key=lambda i: (epoch_ns(i.created), i.id), reverse=True)
    parents = {i.parent for i in newest_first}
    dangling = filter_flag(filters, "dangling")
    older = [_created(newest_first, ref) for ref in filters.get("before", ())]
    newer = [_created(newest_first, ref) for ref in filters.get("since", ())]
    older += [int(moment(text, now) * 1e9) for text in filters.get("until", ())]
    found = [
        i
        for i in newest_first
        if (i.tags or i.id not in parents or (all and not dangling))
        and (dangling is None or dangling is not bool(i.tags))
        and labelled(filters.get("label", ()), i.config.labels)
        and not any(epoch_ns(i.created) >= bound for bound in older)
        and not any(epoch_ns(i.created) <= bound for bound in newer)
    ]
    if "reference" not in filters:
        return found
    named = [_referenced(i, filters["reference"]) for i in found]
    return [i for i in named if i.tags or i.digests]


def _created(images: Sequence[Image], ref: str) -> int:
    for image in images:
        digits = image.id.removeprefix("sha256:")
        if ref in image.tags or f"{ref}:latest" in image.tags or ref == image.id:
            return epoch_ns(image.created)
        if len(ref) >= 4 and digits.startswith(ref.removeprefix("sha256:")):
            return epoch_ns(image.created)
    raise NotFound(f"No such image: {ref if ':' in ref.rpartition('/')[2] else f'{ref}:latest'}")


def _referenced(image: Image, patterns: Sequence[str]) -> Image:
    """The image with those of its names that a pattern matches, as Docker shows it."""

    def matches(name: str) -> bool:
        repository = re.split(r"@|:(?=[^/:]*$)", name)[0]
        return any(glob(p, name) or glob(p, repository) for p in patterns)

    return replace(
        image,
        tags=tuple(filter(matches, image.tags)),
        digests=tuple(filter(matches, image.digests)),
    )


def glob(pattern: str, text: str) -> bool:
    """Go's path.Match: `*` and `?` do not cross a slash."""
    parts = re.findall(r"\*|\?|\[[^\]]+\]|\\.|.", pattern)
    made = "".join(
        "[^/]*" if p == "*" else
        "[^/]" if p == "?" else
        p if p.startswith("[") and len(p) > 2 else
        re.escape(p[1:]) if p.startswith("\\") and len(p) == 2 else
        re.escape(p)
        for p in parts
    )  # fmt: skip
    try:
        return re.fullmatch(made, text) is not None
    except re.error:
        return False
