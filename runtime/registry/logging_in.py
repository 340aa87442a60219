"""Try credentials at a registry, as `docker login` does."""

from __future__ import annotations

from typing import ClassVar

from netkit.errors import NetkitError
from runtime.registry import failures
from runtime.registry.failures import NoCredentials, Refused
from runtime.registry.session import Session


class Unauthorized(NetkitError):
    """The registry does not take the credentials."""

    status: ClassVar[int] = 401


def log_in(session: Session) -> str:
    """The identity token, or "" where the password itself is used.  Unauthorized."""
    url = session.endpoint.url("")
    try:
        token = session.identity() if session.challenged == "bearer" else ""
        answer = session.ask("GET", url)
        if answer.status == 200:
            answer.document()
            return token
        error = session.refused(answer)
    except (NoCredentials, Refused) as refused:
        error = refused
    text = f"login attempt to {url} failed with status: {error.http} {failures.phrase(error.http)}"
    if str(error) and not str(error).startswith("received unexpected HTTP status"):
        text = f"{text}: {error}"
    if error.http in {401, 403}:
        raise Unauthorized(text)
    raise Refused(text, http=error.http)
