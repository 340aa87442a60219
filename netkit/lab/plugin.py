"""The pytest plugin: a `lab` fixture, for tests marked with the lab they need.

    @pytest.mark.lab("labs/13-icc")
    def test_web_answers(lab):
        assert lab.guest.can_reach(lab.web, "tcp/80")

A lab is brought up once a module, under a name of its own so that several runs do not meet, and
taken down at the module's end.  Loaded by every pytest where netkit is installed, so it imports
nothing until a test asks for the fixture.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from netkit.lab.running import RunningLab

MARK = "lab(folder, name=None): the folder of the lab.yml that the `lab` fixture brings up"
UP: pytest.StashKey[dict[tuple[str, str], RunningLab]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARK)


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> RunningLab:
    """The lab of the nearest `lab` mark, running.  Its folder is relative to the root folder."""
    mark = request.node.get_closest_marker("lab")
    if mark is None or not mark.args:
        raise pytest.UsageError('the lab fixture needs a mark: @pytest.mark.lab("labs/12-docker0")')
    if os.geteuid() != 0:
        pytest.skip("labs need root")
    folder = str(_folder(request, mark.args[0]))
    name = mark.kwargs.get("name") or ""
    module = request.node.getparent(pytest.Module) or request.session
    running = module.stash.setdefault(UP, {})
    if (folder, name) not in running:
        from netkit.lab.running import RunningLab

        new = RunningLab(folder, name or f"{Path(folder).name[:20]}-{secrets.token_hex(3)}")
        module.addfinalizer(new.down)  # before up: what fails half-way is taken down, too
        new.up()
        running[folder, name] = new
    return running[folder, name]


def _folder(request: pytest.FixtureRequest, given: str) -> Path:
    """Beside the test file, or from the root folder of the run."""
    beside = request.path.parent / given
    return beside if beside.is_dir() else request.config.rootpath / given
