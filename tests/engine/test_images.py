"""import, load, save, tag, images, rmi, inspect, history."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.engine import image
from tests.engine.daemon import Engine, fresh, netkit_only


def tags(engine: Engine, *flags: str) -> set[str]:
    return set(engine.out("images", "--format", "{{.Repository}}:{{.Tag}}", *flags).split())


def small(*entries: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def test_import_makes_an_image_with_changes(engine: Engine) -> None:
    name = fresh("img")
    ident = engine.load_image(
        name, changes=["WORKDIR /data", "USER app", "EXPOSE 80/tcp", "LABEL a=b", 'ENV X="y z"'],
    )  # fmt: skip
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", ident)
    config = json.loads(engine.out("image", "inspect", name))[0]["Config"]
    assert config["WorkingDir"] == "/data"
    assert config["User"] == "app"
    assert config["ExposedPorts"] == {"80/tcp": {}}
    assert config["Labels"] == {"a": "b"}
    assert "X=y z" in config["Env"]
    assert engine.run(name, "sh", "-c", "pwd; id -un; echo $X").split("\n") == [
        "/data",
        "app",
        "y z",
    ]


def test_import_of_a_compressed_tar(engine: Engine) -> None:
    name = fresh("img")
    engine.out("import", "-", name, input=gzip.compress(image.rootfs(), 1))
    assert engine.run(name, "/bin/echo", "ok") == "ok"


def test_import_with_a_message_shows_in_history(engine: Engine) -> None:
    name = fresh("img")
    engine.out("import", "-m", "made by hand", "-", name, input=small(("f", b"x")))
    assert "made by hand" in engine.out("history", "--no-trunc", name)


def test_import_of_rubbish_fails_and_leaves_nothing(engine: Engine) -> None:
    before = engine.out("images", "-aq")
    assert (
        engine.docker(
            "import", "-", fresh("img"), input=b"no tar at all" * 100, check=False
        ).returncode
        == 1
    )
    assert engine.out("images", "-aq") == before


def test_tag_and_rmi_by_name_and_id(engine: Engine) -> None:
    one, two = f"{fresh('r')}:1", f"{fresh('r')}/sub:two"
    ident = engine.out("import", "-", one, input=small(("g", one.encode())))
    engine.docker("tag", one, two)
    assert {one, two} <= tags(engine)
    text = engine.out("rmi", one)
    assert text == f"Untagged: {one}"
    assert one not in tags(engine)
    assert f"Deleted: {ident}" in engine.out("rmi", two)
    assert engine.docker("image", "inspect", ident, check=False).returncode == 1


def test_an_id_with_several_names_needs_force(engine: Engine) -> None:
    one, two = fresh("r"), fresh("r")
    ident = engine.out("import", "-", one, input=small(("h", one.encode())))
    engine.docker("tag", one, two)
    done = engine.docker("rmi", ident, check=False)
    assert done.returncode == 1
    assert "must be forced" in done.stderr
    engine.docker("rmi", "-f", ident)
    assert not {f"{one}:latest", f"{two}:latest"} & tags(engine)


def test_an_image_in_use_is_kept(engine: Engine) -> None:
    name = fresh("img")
    engine.load_image(name, changes=["LABEL own=1"])
    container = engine.up(name, "sleep", "100000")
    done = engine.docker("rmi", name, check=False)
    assert done.returncode == 1
    assert "is being used by" in done.stderr or "is using" in done.stderr
    engine.docker("rm", "-f", container)
    engine.docker("rmi", name)


def test_images_lists_filters_and_formats(engine: Engine) -> None:
    name = fresh("img")
    engine.load_image(f"{name}:v1", changes=["LABEL shape=round"])
    assert tags(engine, name) == {f"{name}:v1"}
    assert tags(engine, "-f", "label=shape=round") == {f"{name}:v1"}
    assert tags(engine, "-f", f"reference={name[:6]}*:v1") == {f"{name}:v1"}
    assert tags(engine, "-f", f"before={name}:v1") == {"busybox:latest"}
    assert tags(engine, "-f", "since=busybox") == {f"{name}:v1"}
    assert tags(engine, "-f", "dangling=true") == set()
    row = json.loads(engine.out("images", "--format", "json", name))
    assert float(re.sub("[A-Z]B$", "", row["Size"])) > 0.5
    assert engine.out("images", "-q", "--no-trunc", name).startswith("sha256:")


def test_an_image_that_lost_its_name_is_dangling_and_pruned(engine: Engine) -> None:
    name = fresh("img")
    old = engine.out("import", "-", name, input=small(("v", b"1")))
    engine.out("import", "-", name, input=small(("v", b"2")))
    assert engine.out("images", "-q", "--no-trunc", "-f", "dangling=true") == old
    assert old in engine.out("image", "prune", "-f")
    assert engine.out("images", "-q", "-f", "dangling=true") == ""


def test_save_and_load_give_the_same_image(engine: Engine, folder: Path) -> None:
    name, file = f"{fresh('img')}:tag", folder / "image.tar"
    ident = engine.load_image(name, changes=["LABEL saved=yes", "ENV A=b"])
    engine.docker("save", "-o", str(file), name)
    with tarfile.open(file) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert manifest[0]["RepoTags"] == [name]
        config = tar.extractfile(manifest[0]["Config"])
        assert config is not None
        assert "sha256:" + hashlib.sha256(config.read()).hexdigest() == ident
        assert all(layer in tar.getnames() for layer in manifest[0]["Layers"])
    engine.docker("rmi", name)
    assert f"Loaded image: {name}" in engine.out("load", "-i", str(file))
    assert engine.out("image", "inspect", "-f", "{{.Id}}", name) == ident
    assert engine.run(name, "env").count("A=b") == 1


def test_load_from_standard_input_quietly(engine: Engine, folder: Path) -> None:
    name, file = fresh("img"), folder / "i.tar"
    engine.load_image(name, changes=["LABEL q=1"])
    engine.docker("save", "-o", str(file), name)
    engine.docker("rmi", name)
    engine.docker("load", "-q", input=gzip.compress(file.read_bytes(), 1))
    assert f"{name}:latest" in tags(engine)


def test_skopeo_reads_what_save_writes(engine: Engine, folder: Path) -> None:
    file = folder / "i.tar"
    engine.docker("save", "-o", str(file), "busybox")
    done = subprocess.run(
        ["skopeo", "copy", "--insecure-policy", f"docker-archive:{file}", f"oci:{folder}/oci:x"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    index = json.loads((folder / "oci/index.json").read_text())
    assert len(index["manifests"]) == 1


def corrupt(archive: bytes) -> bytes:
    """The saved image with one byte of its layer changed."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as source,
        tarfile.open(fileobj=out, mode="w") as target,
    ):
        manifest: Any = json.load(source.extractfile("manifest.json"))  # type: ignore[arg-type]
        layer = manifest[0]["Layers"][0]
        for entry in source:
            data = source.extractfile(entry)
            content = bytearray(data.read() if data else b"")
            if entry.name == layer:
                content[600] ^= 0xFF
            target.addfile(entry, io.BytesIO(content) if data else None)
    return out.getvalue()


def test_a_layer_that_does_not_match_its_digest_is_refused(engine: Engine, folder: Path) -> None:
    name, file = fresh("img"), folder / "i.tar"
    engine.out("import", "-", name, input=small(("file", b"x" * 2000)))
    engine.docker("save", "-o", str(file), name)
    engine.docker("rmi", name)
    done = engine.docker("load", input=corrupt(file.read_bytes()), check=False)
    assert done.returncode == 1
    assert f"{name}:latest" not in tags(engine)


REGULAR = tarfile.REGTYPE


def _entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = kind, link, 0o755
    return entry


@pytest.mark.parametrize(
    "entries",
    [
        [("../{c}", tarfile.REGTYPE, "")],
        [("/../../../../../../../../{p}/{c}", tarfile.REGTYPE, "")],
        [("out", tarfile.SYMTYPE, "{p}"), ("out/{c}", tarfile.REGTYPE, "")],
        [("out", tarfile.SYMTYPE, "../../../../../../../../{p}"), ("out/{c}", tarfile.REGTYPE, "")],
        [("a", tarfile.SYMTYPE, "{p}"), ("b", tarfile.SYMTYPE, "a"), ("b/{c}", REGULAR, "")],
        [("steal", tarfile.LNKTYPE, "{p}/secret")],
        [("steal", tarfile.LNKTYPE, "../../../../../../../../../../../{p}/secret")],
        [("out", tarfile.SYMTYPE, "{p}"), ("out/.wh.secret", tarfile.REGTYPE, "")],
        [(".wh...", tarfile.REGTYPE, "")],
        [("x/.wh...", tarfile.REGTYPE, "")],
    ],
    ids=["dotdot", "absolute", "symlink", "relative-symlink", "chain", "hardlink", "far-hardlink",
         "whiteout-by-link", "whiteout-dotdot", "whiteout-dotdot-below"],
)  # fmt: skip
def test_nothing_in_a_layer_escapes_it(
    engine: Engine, folder: Path, entries: list[tuple[str, bytes, str]]
) -> None:
    (folder / "secret").write_text("keep me")
    canary, out = fresh("canary"), io.BytesIO()
    fill = {"p": str(folder), "c": canary}
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, link in entries:
            tar.addfile(_entry(name.format(**fill), kind, link.format(**fill)))
    engine.docker("import", "-", fresh("img"), input=out.getvalue(), check=False)
    assert [entry.name for entry in folder.iterdir()] == ["secret"]
    assert (folder / "secret").read_text() == "keep me"
    assert (folder / "secret").stat().st_nlink == 1
    assert not list(engine.folder.rglob(canary)) or all(
        str(engine.root) in str(path) for path in engine.folder.rglob(canary)
    )


def test_image_inspect_and_history(engine: Engine) -> None:
    one = json.loads(engine.out("image", "inspect", "busybox"))[0]
    assert one["RepoTags"] == ["busybox:latest"]
    assert one["RootFS"]["Type"] == "layers"
    assert len(one["RootFS"]["Layers"]) == 1
    assert one["Os"] == "linux"
    assert one["Size"] > 1_000_000
    assert one["Config"]["Cmd"] in (["sh"], ["/bin/sh", "-c", "sh"])
    rows = [
        json.loads(line)
        for line in engine.out("history", "--format", "json", "busybox").splitlines()
    ]
    assert len(rows) >= 1


def test_an_image_that_is_not_there(engine: Engine) -> None:
    assert "No such image" in engine.docker("rmi", "nosuch", check=False).stderr
    assert "No such image" in engine.docker("tag", "nosuch", "x", check=False).stderr
    assert engine.docker("save", "nosuch", "-o", "/dev/null", check=False).returncode == 1
    assert engine.docker("image", "inspect", "nosuch", check=False).returncode == 1


@netkit_only("Docker has one format")
def test_images_are_saved_as_an_oci_layout_if_asked(engine: Engine, folder: Path) -> None:
    file = folder / "i.tar"
    engine.netkit("save", "--format", "oci", "-o", str(file), "busybox")
    with tarfile.open(file) as tar:
        assert {"oci-layout", "index.json", "manifest.json"} <= set(tar.getnames())
