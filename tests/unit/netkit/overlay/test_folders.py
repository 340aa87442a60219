"""What of a launch outlives `stop`, and what does not."""

from __future__ import annotations

from pathlib import Path

from netkit.overlay.core import Settings
from netkit.overlay.folders import Folders

FIRST = Settings(launch="1", password="secret", nickname="h1")


def test_what_was_launched_is_kept_over_a_stop_until_a_reset(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "state", tmp_path / "run")
    assert folders.read_former() is None
    folders.write(FIRST)
    for _ in range(2):  # the process does, and netkitd
        folders.forget_launch()
        assert (folders.read(), folders.read_former()) == (None, FIRST)
    assert folders.former.stat().st_mode & 0o777 == 0o600
    folders.write(Settings(launch="2"))
    folders.cancel_launch()
    assert (folders.read(), folders.read_former()) == (None, FIRST)
    folders.forget_state()
    assert folders.read_former() is None
    assert list(folders.state.iterdir()) == []
