"""Search an index by the v1 search API, which Docker's has and most registries have not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from netkit.errors import InvalidSpec, NetkitError
from runtime import untrusted
from runtime.cancellation import Cancel
from runtime.images.pulling import Logins
from runtime.registry import failures
from runtime.registry.credentials import own_login
from runtime.registry.endpoints import Endpoint, Lookup, endpoints
from runtime.registry.exchange import Answer, Exchange, Request
from runtime.registry.guard import Dropped
from runtime.registry.session import basic
from runtime.registry.settings import HUB, HUB_NAMES, INDEX_HOST, RegistrySettings


class _Result(msgspec.Struct):
    name: str = ""
    description: str | None = None
    star_count: int | None = None
    is_official: bool | None = None
    is_automated: bool | None = None


class _Results(msgspec.Struct):
    results: list[_Result] | None = None


def search(
    settings: RegistrySettings,
    lookup: Lookup,
    term: str,
    limit: int,
    logins: Logins,
    cancel: Cancel,
) -> list[dict[str, Any]]:
    """The index's results; Refused if it has no search.  InvalidSpec for a bad term."""
    registry, words = _split(term)
    login = logins(registry) or own_login(settings.logins, registry)
    headers = {"X-Docker-Token": "true"}
    if login is not None and login.username:
        headers["Authorization"] = basic(login)
    query = urlencode({"q": words, "n": str(limit)})
    ways = (
        [Endpoint(scheme="https", host=INDEX_HOST)]
        if registry == HUB
        else endpoints(registry, settings, lookup, mirrors=False)
    )
    last: NetkitError = InvalidSpec("there is no index to search")
    for way in ways:
        exchange = Exchange(settings, cancel, verify=way.verify)
        try:
            url = f"{way.scheme}://{way.host}{way.path}v1/search?{query}"
            return _results(_asked(exchange, url, headers), registry)
        except Dropped as error:
            last = error
        finally:
            exchange.close()
    raise last


def _split(term: str) -> tuple[str, str]:
    if "://" in term:
        raise InvalidSpec(f"invalid repository name: ({term}) should not have a scheme")
    first, slash, rest = term.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return (HUB, rest) if first in HUB_NAMES else (first, rest)
    return HUB, term


def _asked(exchange: Exchange, url: str, headers: Mapping[str, str]) -> Answer:
    authorization = headers.get("Authorization", "")
    plain = {k: v for k, v in headers.items() if k != "Authorization"}
    request = Request(method="GET", url=url, headers=plain)
    first = [True]

    def authorize(origin: object) -> str:
        mine, first[0] = first[0], False
        return authorization if mine else ""

    return exchange.send(request, authorize)


def _results(answer: Answer, registry: str) -> list[dict[str, Any]]:
    body = answer.document()
    if answer.status != 200:
        error = failures.refusal(answer.status, body)  # with a code: in the registry's own words
        why = f": {error}" if error.code else ""
        raise failures.Refused(
            f"Unexpected status code {answer.status}: {registry} does not answer searches{why}",
            http=answer.status,
        )
    try:
        found = msgspec.convert(untrusted.decode(body, "the index's answer"), _Results)
    except msgspec.ValidationError as error:
        raise InvalidSpec(f"the index's answer is malformed: {error}") from error
    return [
        {
            "star_count": each.star_count or 0,
            "is_official": bool(each.is_official),
            "name": failures.clean(each.name),
            "is_automated": bool(each.is_automated),
            "description": each.description or "",
        }
        for each in found.results or ()
    ]
