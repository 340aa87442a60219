"""Errors of builds that have a meaning of their own for the API."""

from __future__ import annotations

from netkit.errors import NetkitError


class BuildFailed(NetkitError):
    """A build cannot go on, in Docker's words.

    Before the first step it is the request's answer, with status 500 as in dockerd; in a step it
    is the stream's last line.
    """
