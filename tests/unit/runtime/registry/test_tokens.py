"""Tokens: what is asked of their server, with which credentials, and how long one serves."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote

import pytest

from netkit.store import Database
from runtime.cancellation import Cancel
from runtime.images.pulling import Login
from runtime.images.reference import parse
from runtime.images.store import ImageStore
from runtime.registry.known import KnownBlobs
from runtime.registry.logging_in import Unauthorized
from runtime.registry.service import RegistryService
from runtime.registry.settings import RegistrySettings
from tests.unit.runtime.registry.hostile import bearer
from tests.unit.runtime.registry.scripted import Asked, Image, Server, errors, reply
from tests.unit.runtime.registry.test_hostile import Quiet

pytestmark = pytest.mark.slow


@pytest.fixture
def hub() -> Iterator[Server]:
    made = Server()
    made.serve(Image(), "team/app")
    made.answers["GET /v2/"] = bearer(f"http://{made.name}/token?x=y")
    for verb in ("GET", "POST"):
        made.answers[f"{verb} /token"] = reply(200, b'{"token": "tkn", "refresh_token": "kept"}')
    yield made
    made.close()


@pytest.fixture
def service(tmp_path: Path) -> RegistryService:
    database = Database(tmp_path / "db")
    store = ImageStore(tmp_path / "images", database, lambda image: ())
    settings = RegistrySettings(certificates=tmp_path, logins=tmp_path / "none", pause=0.01)
    return RegistryService(store, KnownBlobs(database), Quiet(), settings)


def asked(hub: Server, path: str) -> list[Asked]:
    return [each for each in hub.asked if each.path.startswith(path)]


def test_a_token_is_asked_for_once_and_goes_with_each_request(
    hub: Server, service: RegistryService
) -> None:
    service.pull(parse(f"{hub.name}/team/app:1"))
    (one,) = asked(hub, "/token")
    query = parse_qs(one.path.partition("?")[2])
    assert query == {"x": ["y"], "scope": ["repository:team/app:pull"], "service": ["s"]}
    assert "authorization" not in one.headers
    blobs = asked(hub, "/v2/team/app/")
    assert len(blobs) >= 4
    assert {each.headers["authorization"] for each in blobs} == {"Bearer tkn"}


def test_the_password_is_for_the_token_server(hub: Server, service: RegistryService) -> None:
    login = Login(username="me", password="word")
    service.pull(parse(f"{hub.name}/team/app:1"), logins=lambda registry: login)
    (one,) = asked(hub, "/token")
    encoded = base64.b64encode(b"me:word").decode()
    assert one.headers["authorization"] == f"Basic {encoded}"
    assert "account=me" in one.path
    assert all(encoded not in each.text for each in hub.asked if each is not one)


def test_an_identity_token_is_exchanged(hub: Server, service: RegistryService) -> None:
    login = Login(identity_token="refresh-me")
    service.pull(parse(f"{hub.name}/team/app:1"), logins=lambda registry: login)
    (one,) = asked(hub, "/token")
    form = parse_qs(unquote(one.body.decode()))
    assert (one.method, form["grant_type"], form["refresh_token"]) == (
        "POST", ["refresh_token"], ["refresh-me"],
    )  # fmt: skip


def test_a_registry_token_is_sent_as_it_is(hub: Server, service: RegistryService) -> None:
    login = Login(registry_token="mine")
    service.pull(parse(f"{hub.name}/team/app:1"), logins=lambda registry: login)
    assert asked(hub, "/token") == []
    assert asked(hub, "/v2/team/")[0].headers["authorization"] == "Bearer mine"


def test_a_login_gives_the_identity_token_or_the_registrys_reason(
    hub: Server, service: RegistryService
) -> None:
    hub.answers["GET /v2/"] = [
        bearer(f"http://{hub.name}/token"), reply(200, b"{}"), bearer(f"http://{hub.name}/token")
    ]  # fmt: skip
    login = Login(username="me", password="word", server=hub.name)
    assert service.login(login, Cancel()) == "kept"
    assert "offline_token=true" in asked(hub, "/token")[0].path
    hub.answers["GET /token"] = errors(401, "UNAUTHORIZED", "incorrect name or word")
    with pytest.raises(Unauthorized, match=r"401 Unauthorized: .*incorrect name or word"):
        service.login(login, Cancel())


def test_the_daemons_own_password_is_for_those_who_send_none(
    hub: Server, tmp_path: Path, service: RegistryService
) -> None:
    text = base64.b64encode(b"own:word").decode()
    (tmp_path / "none").write_text(f'{{"auths": {{"{hub.name}": {{"auth": "{text}"}}}}}}')
    service.pull(parse(f"{hub.name}/team/app:1"))
    assert asked(hub, "/token")[0].headers["authorization"] == f"Basic {text}"
