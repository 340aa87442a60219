"""overlayfs gets absolute paths where they fit into its options: that needs no thread."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from runtime.rootfs import mount


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> Mock:
    made = Mock()
    monkeypatch.setattr(mount, "mount", made)
    return made


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Mock:
    made = Mock()
    monkeypatch.setattr(mount.threads, "once", made)
    return made


def test_few_layers_need_no_thread(mounts: Mock, threads: Mock) -> None:
    mount.overlay("/t", base=Path("/base"), lower=["/c/init", "l/1"], options="index=off")
    options = "lowerdir=/c/init:/base/l/1,index=off"
    mounts.assert_called_once_with("overlay", "/t", "overlay", 0, options)
    threads.assert_not_called()


@pytest.mark.parametrize(
    ("base", "layers"), [("/base", 120), ("/a,comma", 1), ("/a:colon", 1), ("/a\\backslash", 1)]
)
def test_many_layers_and_paths_that_would_be_read_otherwise_do(
    mounts: Mock, threads: Mock, base: str, layers: int
) -> None:
    lower = [f"l/{n:024}" for n in range(layers)]
    mount.overlay("/t", base=Path(base), lower=lower, options="index=off")
    mounts.assert_not_called()
    threads.assert_called_once()
