"""`netkit images --tree`: an image once, below all its names."""

from __future__ import annotations

import pytest

from netkit.cli.app import run
from tests.unit.netkit.cli import cli_fake_daemon
from tests.unit.netkit.cli.cli_fake_daemon import anywhere

IMAGES = [
    {"Id": "sha256:" + "a" * 64, "RepoTags": ["one:1", "registry:5000/two:2"], "Size": 1_980_000,
     "Created": 5, "Containers": 1},
    {"Id": "sha256:" + "b" * 64, "RepoTags": [], "Size": 0, "Created": 7, "Containers": 0},
]  # fmt: skip
TREE = """\
                                                     Info ->  U In Use

IMAGE                 ID             DISK USAGE   CONTENT SIZE   EXTRA
{untagged}one:1
registry:5000/two:2   aaaaaaaaaaaa       1.98MB             0B     U
"""


@pytest.mark.parametrize(
    ("flags", "untagged"),
    [([], ""), (["-a"], "<untagged>            bbbbbbbbbbbb           0B             0B\n")],
)
def test_each_image_is_shown_below_its_names(
    flags: list[str],
    untagged: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli_fake_daemon, "_get", lambda *_: IMAGES)
    with anywhere() as daemon:
        assert run(["-H", f"unix://{daemon.server_address}", "images", "--tree", *flags]) == 0
    assert capsys.readouterr().out == TREE.format(untagged=untagged)
