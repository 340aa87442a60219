"""A registry of the fake engine that has nothing, and takes the password "right"."""

from __future__ import annotations

from typing import Any

from netkit.errors import NotFound
from runtime.cancellation import Cancel
from runtime.images.pulling import Login, Logins, Progress
from runtime.images.reference import Reference
from runtime.registry.logging_in import Unauthorized
from runtime.registry.lookup import Found


class FakeRegistries:
    def pull(self, name: Reference, *, progress: Progress, cancel: Cancel, **_: Any) -> str:
        if name.tag == "slow":
            progress({"status": "Pulling from x", "id": "slow"})
            cancel.wait(60)
        raise NotFound(f"manifest for {name.name} not found: manifest unknown")

    def pull_all(self, name: Reference, **_: Any) -> list[str]:
        raise NotFound(f"repository {name.repository} not found: name unknown")

    def push(self, name: Reference, *, progress: Progress, **_: Any) -> None:
        progress({"status": f"The push refers to repository [{name.repository}]"})
        raise NotFound("An image does not exist locally with the tag: x")

    def look(self, name: Reference, logins: Logins, cancel: Cancel) -> Found:
        raise NotFound(f"manifest for {name.name} not found: manifest unknown")

    def login(self, login: Login, cancel: Cancel) -> str:
        if login.password != "right":
            raise Unauthorized("login attempt to https://x/v2/ failed with status: 401")
        return ""

    def search(
        self, term: str, limit: int, logins: Logins, cancel: Cancel
    ) -> list[dict[str, Any]]:
        return [
            {"name": f"{term}{n}", "star_count": n, "is_official": n == 1, "description": "",
             "is_automated": False}
            for n in range(limit)
        ]  # fmt: skip
