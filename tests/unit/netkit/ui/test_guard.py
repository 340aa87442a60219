"""Who may have the page."""

from __future__ import annotations

import pytest

from netkit.errors import Forbidden
from netkit.ui.guard import Guard, Head, Unauthorized

GUARD = Guard(port=8090, token="secret", base="/0123/")
OWN = "http://127.0.0.1:8090"


def head(method: str = "GET", path: str = "/0123/events", **given: str) -> Head:
    """By the cookie, unless `cookie` or `token` is given; other words are headers."""
    cookie, token = given.pop("cookie", "secret"), given.pop("token", "")
    headers = {"host": "127.0.0.1:8090"}
    headers |= {name.replace("_", "-"): value for name, value in given.items()}
    return Head(method=method, path=path, headers=headers, cookie=cookie, token=token)


def test_the_link_sets_the_cookie_and_the_cookie_serves() -> None:
    assert GUARD.url == "http://127.0.0.1:8090/0123/?token=secret"
    assert GUARD.check(head(path="/0123/", token="secret", cookie=""))
    assert not GUARD.check(head())
    assert not GUARD.check(head("POST", "/0123/trace", origin=OWN, sec_fetch_site="same-origin"))
    assert not GUARD.check(head(host="localhost:8090"))


@pytest.mark.parametrize(
    "request_",
    [
        head(cookie=""), head(cookie="Secret"), head(cookie="sécret"), head(path="/"),
        head(path="/0123"), head(path="/0124/"), head(path="/page.mjs"),
        head(path="/0123/", cookie="", token="secre"),
        head(path="/0123/events", cookie="", token="secret"),  # it is for the link alone
        head("POST", "/0123/", cookie="", token="secret", origin=OWN),
    ],
)  # fmt: skip
def test_without_the_token_nothing_is_served(request_: Head) -> None:
    with pytest.raises(Unauthorized, match="open the link"):
        GUARD.check(request_)


@pytest.mark.parametrize(
    "host", ["", "127.0.0.1", "127.0.0.1:8091", "rebound.example:8090", "[::1]:8090"]
)
def test_another_name_as_host_is_refused_with_the_token_as_well(host: str) -> None:
    with pytest.raises(Forbidden, match="Host"):
        GUARD.check(head(host=host))


@pytest.mark.parametrize(
    "request_",
    [
        head(sec_fetch_site="cross-site"), head(sec_fetch_site="same-site"),
        head(origin="http://127.0.0.1:8080"), head(origin="null"),
        head("POST", "/0123/trace"), head("POST", "/0123/trace", origin="http://localhost:8090"),
    ],
)  # fmt: skip
def test_other_pages_are_refused_with_the_cookie_as_well(request_: Head) -> None:
    """Pages of other ports of 127.0.0.1 are of the same site: SameSite does not keep them off."""
    with pytest.raises(Forbidden, match="pages"):
        GUARD.check(request_)


def test_the_link_may_be_followed_from_elsewhere() -> None:
    """From a mail or a terminal in a browser: it has the token itself."""
    assert GUARD.check(head(path="/0123/", token="secret", cookie="", sec_fetch_site="cross-site"))


def test_each_run_has_a_token_and_a_path_of_its_own() -> None:
    one, two = Guard(port=1), Guard(port=1)
    assert one.token != two.token
    assert one.base != two.base
    assert len(one.token) >= 40
    assert one.token not in repr(one)
