"""What is found of control groups on hosts of several kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.oci.cgroups import Cgroups


@pytest.mark.parametrize("version", [1, 2])
def test_a_host_with_control_groups_needs_no_warning(tmp_path: Path, version: int) -> None:
    if version == 2:
        (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    else:
        for name in ("cpu", "memory", "systemd", "unified"):
            (tmp_path / name).mkdir()
    found = Cgroups.probe(tmp_path)
    assert found.version == version
    assert {"cpu", "memory"} <= found.controllers
    assert found.warning == ""


def test_without_control_groups_the_warning_says_what_to_do(tmp_path: Path) -> None:
    """`ip netns exec` mounts a sysfs of its own, which has none."""
    for top in (tmp_path, tmp_path / "absent"):
        assert "nsenter --net=/run/netns/NAME" in Cgroups.probe(top).warning
