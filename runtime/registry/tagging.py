"""The tags of a repository."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import msgspec

from netkit.errors import InvalidSpec
from runtime import limits, untrusted
from runtime.images.reference import TAG
from runtime.registry.connection import Origin
from runtime.registry.endpoints import Repository
from runtime.registry.session import Session

_NEXT = re.compile(r'\s*<([^>]*)>\s*;\s*rel="?next"?')


class _Document(msgspec.Struct):
    tags: list[str] | None = None


def tags(session: Session, where: Repository) -> list[str]:
    """All tags, in the registry's order.  InvalidSpec for what is no list of tags."""
    found: dict[str, None] = {}
    url = session.endpoint.url(f"{where.path}/tags/list")
    for _ in range(limits.REGISTRY_PAGES):
        answer = session.ask("GET", url, scopes=(f"repository:{where.path}:pull",))
        if answer.status != 200:
            raise session.refused(answer)
        link = _NEXT.match(answer.headers.get("Link", ""))
        document = untrusted.decode(answer.document(), "the list of tags")
        try:
            listed = msgspec.convert(document, _Document).tags or ()
        except msgspec.ValidationError as error:
            raise InvalidSpec(f"the list of tags is malformed: {error}") from error
        for tag in listed:
            if not TAG.fullmatch(tag):
                raise InvalidSpec(f"the registry has a malformed tag {tag[:100]!r}")
            found[tag] = None
        if not link:
            return list(found)
        before, url = url, urljoin(url, link[1])
        if Origin.of(url) != Origin.of(before) or url == before:
            raise InvalidSpec(f"the list of tags goes on at {url[:200]!r}: refused")
    raise InvalidSpec(f"the list of tags has more than {limits.REGISTRY_PAGES} pages")
