"""CNI without a daemon: what is refused before the host is looked at."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from runtime.daemon import cni_once

ADD = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "a", "CNI_IFNAME": "eth0", "CNI_NETNS": "/nosuch"}


def call(folder: Path, text: str, **env: str) -> tuple[int, Any]:
    own = {"NETKIT_CNI_ROOT": str(folder / "root"), "NETKIT_CNI_RUN": str(folder / "run"),
           "NETKIT_HOST": f"unix://{folder}/none"}  # fmt: skip
    code, output = cni_once.run({**ADD, **own, **env}, text.encode())
    return code, json.loads(output) if output else None


def conf(**more: Any) -> str:
    return json.dumps({"cniVersion": "1.0.0", "name": "b", "daemon": "none", **more})


@pytest.mark.parametrize("driver", ["ovs", "weave", "lan", "nosuch"])
def test_other_drivers_need_netkitd(tmp_path: Path, driver: str) -> None:
    code, error = call(tmp_path, conf(driver=driver))
    assert (code, error["code"], error["cniVersion"]) == (1, 7, "1.0.0")
    assert f"driver '{driver}' needs netkitd" in error["msg"]
    assert list(tmp_path.iterdir()) == []


def test_it_does_not_work_beside_netkitd(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(tmp_path / "s"))
        end.listen()
        code, error = call(tmp_path, conf(), NETKIT_HOST=f"unix://{tmp_path}/s")
    assert (code, error["code"]) == (1, 7)
    assert f"netkitd runs at {tmp_path}/s" in error["msg"]


def test_what_is_no_configuration_is_refused(tmp_path: Path) -> None:
    assert call(tmp_path, "{")[1]["code"] == 6
    assert call(tmp_path, conf(subnett=1))[1]["code"] == 2


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")
    code, error = call(tmp_path, conf())
    assert (code, error["code"]) == (1, 11)
    assert f"{tmp_path}/root" in error["msg"]
