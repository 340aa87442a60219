"""The links in a container's document: child ids by alias."""

from __future__ import annotations

from collections.abc import Mapping

from runtime.container.model import Container

LINKS = "links"  # in Container.extra: child ids by alias


def of(c: Container) -> Mapping[str, str]:
    """Child ids by alias."""
    found: Mapping[str, str] = c.extra.get(LINKS) or {}
    return found
