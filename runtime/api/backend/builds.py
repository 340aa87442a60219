"""Protocol of builds."""

from __future__ import annotations

from typing import Protocol

from runtime.apitypes import Upload
from runtime.build.output import Send
from runtime.build.request import BuildRequest
from runtime.cancellation import Cancel


class Builds(Protocol):
    def build(self, request: BuildRequest, upload: Upload, send: Send, cancel: Cancel) -> None:
        """Build an image, and report to `send`, which is called from several threads.

        Errors before the first message are the request's; Cancelled once `cancel` is set.
        """
        ...

    def cancel(self, build_id: str) -> None:
        """End the build that was begun with this id, if it runs."""
        ...
