"""Builds of the fake engine: they take in the context, and have one step."""

from __future__ import annotations

from runtime.apitypes import Upload
from runtime.build.errors import BuildFailed, CommandFailed
from runtime.build.output import Send
from runtime.build.request import BuildRequest
from runtime.cancellation import Cancel


class FakeBuilds:
    def __init__(self) -> None:
        self.requests: list[BuildRequest] = []
        self.cancelled: list[str] = []

    def build(self, request: BuildRequest, upload: Upload, send: Send, cancel: Cancel) -> None:
        size = 0
        while data := upload.read(1 << 16):
            size += len(data)
        self.requests.append(request)
        if not size and request.dockerfile == "D":
            raise BuildFailed(f"Cannot locate specified Dockerfile: {request.dockerfile}")
        send({"stream": f"{size} bytes\n"})
        if request.target == "slow":
            cancel.wait(60)
        raise CommandFailed(["/bin/sh", "-c", "false"], 7)

    def cancel(self, build_id: str) -> None:
        self.cancelled.append(build_id)
