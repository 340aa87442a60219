"""Where the overlay's process keeps what it needs on a host."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from netkit.errors import StoreError
from netkit.overlay.core import Settings


@dataclass(frozen=True, slots=True)
class Folders:
    """`state` outlives a reboot, `run` need not; both are ours alone."""

    state: Path
    run: Path

    @property
    def settings(self) -> Path:
        """What it was launched with; there is one from `launch` to `stop`."""
        return self.state / "settings"

    @property
    def former(self) -> Path:
        """What it was launched with last, from `stop` on: `launch --resume` takes it up."""
        return self.state / "settings.former"

    @property
    def database(self) -> Path:
        return self.state / "overlay.db"

    @property
    def control(self) -> Path:
        return self.run / "control"

    @property
    def pid(self) -> Path:
        """Locked by the process while it lives."""
        return self.run / "pid"

    @property
    def log(self) -> Path:
        return self.run / "log"

    @property
    def errors(self) -> Path:
        """What the process, or a worker, wrote as it died; begun anew with each start."""
        return self.run / "errors"

    def make(self) -> None:
        for folder in (self.state, self.run):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read(self) -> Settings | None:
        """None: it was not launched.  StoreError: the file is damaged."""
        return _read(self.settings)

    def read_former(self) -> Settings | None:
        """As `read`, of the launch that was stopped last."""
        return _read(self.former)

    def write(self, settings: Settings) -> None:
        """On the disk when it returns; OSError."""
        self.make()
        fresh = self.settings.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(settings))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.settings)
        self._sync()

    def forget_launch(self) -> None:
        """It is not to be started any more, until `launch --resume`."""
        with suppress(FileNotFoundError):
            self.settings.replace(self.former)
        self._sync()

    def cancel_launch(self) -> None:
        """The launch failed: what was stopped last can still be resumed."""
        self.settings.unlink(missing_ok=True)
        self._sync()

    def forget_state(self) -> None:
        """This host is a new peer from now on."""
        for suffix in ("", "-wal", "-shm"):
            self.database.with_name(self.database.name + suffix).unlink(missing_ok=True)
        self.settings.unlink(missing_ok=True)
        self.former.unlink(missing_ok=True)
        self._sync()

    def _sync(self) -> None:
        if self.state.exists():
            fd = os.open(self.state, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def _read(path: Path) -> Settings | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Settings)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, ValueError) as e:
        raise StoreError(f"{path} is damaged ({e}): remove it, and launch the overlay again") from e
