"""Docker's config.json and credential helpers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netkit.client.credentials import HUB_KEY, Credentials, DockerConfig, Unusable

HELPER = """#!/bin/sh
store="$(dirname "$0")/kept"
case "$1" in
store) cat > "$store" ;;
get) [ ! -f "$store" ] && echo "credentials not found in native keychain" && exit 1
     cat "$store" ;;
erase) rm -f "$store" ;;
esac
"""


@pytest.fixture
def config(tmp_path: Path) -> DockerConfig:
    return DockerConfig(tmp_path / "docker" / "config.json", seconds=20)


def test_what_is_stored_is_found_and_erased_and_the_rest_stays(config: DockerConfig) -> None:
    config.path.parent.mkdir()
    config.path.write_text(json.dumps({"psFormat": "x", "auths": {"other": {"auth": "YTpi"}}}))
    assert config.store("reg.example:5000", Credentials("me", "se:cret")) == str(config.path)
    assert config.path.stat().st_mode & 0o777 == 0o600
    assert config.get("reg.example:5000") == Credentials("me", "se:cret")
    assert config.get("https://reg.example:5000/v1/") == Credentials("me", "se:cret")
    assert config.get("other") == Credentials("a", "b")
    assert config.get("reg.example") is None
    assert sorted(config.all()) == ["other", "reg.example:5000"]
    assert config.erase("reg.example:5000")
    assert not config.erase("reg.example:5000")
    assert json.loads(config.path.read_text()) == {
        "psFormat": "x", "auths": {"other": {"auth": "YTpi"}}
    }  # fmt: skip


def test_the_hub_has_dockers_key(config: DockerConfig) -> None:
    config.store("docker.io", Credentials("me", "", "token"))
    assert list(json.loads(config.path.read_text())["auths"]) == [HUB_KEY]
    for name in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        found = config.get(name)
        assert found is not None
        assert found.identity_token == "token"


def test_a_link_stays_a_link(config: DockerConfig, tmp_path: Path) -> None:
    config.path.parent.mkdir()
    (tmp_path / "real.json").write_text("{}")
    config.path.symlink_to(tmp_path / "real.json")
    config.store("r", Credentials("a", "b"))
    assert config.path.is_symlink()
    assert "r" in json.loads((tmp_path / "real.json").read_text())["auths"]


@pytest.mark.slow
@pytest.mark.parametrize("named", [{"credsStore": "nktest"}, {"credHelpers": {"r": "nktest"}}])
def test_a_helper_keeps_the_password(
    named: dict[str, object], config: DockerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker-credential-nktest"
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    config.path.parent.mkdir()
    config.path.write_text(json.dumps(named))
    assert config.get("r") is None
    assert config.store("r", Credentials("me", "secret")) == ""
    assert "secret" not in config.path.read_text()
    assert config.get("r") == Credentials("me", "secret")
    config.store("r", Credentials("me", "", "token"))
    assert config.get("r") == Credentials(identity_token="token")
    assert config.erase("r")
    assert config.get("r") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not JSON"), ("[]", "one JSON object"),
        ('{"credsStore": "nosuch"}', "not in PATH"), ('{"credsStore": "../x"}', "no name"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_said(config: DockerConfig, text: str, reason: str) -> None:
    config.path.parent.mkdir()
    config.path.write_text(text)
    with pytest.raises(Unusable, match=reason):
        config.get("r")
    assert config.path.read_text() == text


def test_a_file_that_is_spoiled_gives_no_credentials(config: DockerConfig) -> None:
    config.path.parent.mkdir()
    config.path.write_text('{"auths": {"r": {"auth": "!"}, "s": 7}}')
    assert config.get("r") is None
    assert config.get("s") is None


def test_a_password_is_not_shown_with_what_is_logged() -> None:
    shown = repr(Credentials("me", "se:cret", "token"))
    assert shown == "Credentials(username='me')"
