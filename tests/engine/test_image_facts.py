"""What clients read about images: names, times, sizes, who uses them; what `save` takes along."""

from __future__ import annotations

import io
import json
import tarfile
import time
from datetime import datetime
from typing import Any

from tests import hostile
from tests.engine.daemon import Engine, fresh, netkit_only


def layer(name: str, size: int) -> bytes:
    return hostile.tar([hostile.entry(name)], b"x" * size)


def names(engine: Engine, *args: str) -> list[str]:
    return sorted(engine.out("images", "--format", "{{.Repository}}:{{.Tag}}", *args).split())


def manifest(archive: str) -> list[dict[str, Any]]:
    data = archive.encode("utf-8", "surrogateescape")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found: list[dict[str, Any]] = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    return found


def tagged_ago(engine: Engine, ref: str) -> float:
    """Return the seconds since the image last got a name."""
    text = json.loads(engine.out("image", "inspect", ref))[0]["Metadata"]["LastTagTime"]
    return time.time() - datetime.fromisoformat(text[:19] + "+00:00").timestamp()


def test_the_time_of_the_last_tag(engine: Engine) -> None:
    tag = fresh("t")
    ident = engine.out("import", "-", f"{tag}:1", input=layer("f", 1))
    assert tagged_ago(engine, f"{tag}:1") < 30
    saved = engine.docker("save", ident).stdout
    nameless = engine.out("import", "-", input=layer("g", 1))
    assert tagged_ago(engine, nameless) > 1e9
    engine.docker("tag", nameless, f"{tag}:2")
    assert tagged_ago(engine, nameless) < 30
    assert manifest(saved)[0]["RepoTags"] is None


def test_only_names_that_were_asked_for_are_listed(engine: Engine) -> None:
    tag = fresh("n")
    engine.docker("import", "-", f"{tag}:1", input=layer("f", 1))
    for other in (f"{tag}:2", f"{tag}/sub:1"):
        engine.docker("tag", f"{tag}:1", other)
    assert names(engine, f"{tag}:1") == [f"{tag}:1"]
    assert names(engine, tag) == [f"{tag}:1", f"{tag}:2"]
    assert names(engine, "-f", f"reference={tag}*:2") == [f"{tag}:2"]
    assert names(engine, "-f", f"reference={tag}/*") == [f"{tag}/sub:1"]
    assert names(engine, "-f", f"reference={tag}:2", "-f", f"reference={tag}/sub") == [
        f"{tag}/sub:1", f"{tag}:2",
    ]  # fmt: skip
    assert names(engine, f"{tag}:3") == []


def test_save_takes_the_names_it_was_given(engine: Engine) -> None:
    tag = fresh("s")
    ident = engine.out("import", "-", f"{tag}:1", input=layer("f", 1))
    engine.docker("tag", ident, f"{tag}:2")
    other = engine.out("import", "-", f"{tag}:3", input=layer("g", 1))

    def saved(*refs: str) -> list[list[str] | None]:
        return [entry["RepoTags"] for entry in manifest(engine.docker("save", *refs).stdout)]

    assert saved(ident) == saved(ident.removeprefix("sha256:")[:12]) == [None]
    assert saved(f"{tag}:2") == [[f"{tag}:2"]]
    assert saved(ident, f"{tag}:2", f"{tag}:1", f"{tag}:2") == [[f"{tag}:2", f"{tag}:1"]]
    assert saved(f"{tag}:1", other) == [[f"{tag}:1"], None]
    assert saved(tag) == [[f"{tag}:1", f"{tag}:2"], [f"{tag}:3"]]
    archive = engine.docker("save", ident).stdout.encode("utf-8", "surrogateescape")
    engine.docker("tag", other, f"{tag}:1")
    assert f"Loaded image ID: {ident}" in engine.out("load", input=archive)
    assert engine.out("image", "inspect", "-f", "{{.Id}}", f"{tag}:1") == other


@netkit_only("20.10 has no containers in this list, and other sizes")
def test_sizes_that_images_share(engine: Engine) -> None:
    tag = fresh("z")
    base, one, two = layer("base", 300_000), layer("one", 20_000), layer("two", 1_000)
    engine.docker("load", input=hostile.as_image([base, one], f"{tag}:1"))
    engine.docker("load", input=hostile.as_image([base, two], f"{tag}:2"))
    engine.docker("load", input=hostile.as_image([two, base], f"{tag}:3"))  # other layers below
    for _ in "12":
        engine.docker("create", f"{tag}:1")
    usage = engine.client.df()
    rows = {i["RepoTags"][0]: i for i in usage["Images"] if i["RepoTags"][0].startswith(tag)}
    assert [
        (rows[f"{tag}:{n}"]["Size"], rows[f"{tag}:{n}"]["SharedSize"],
         rows[f"{tag}:{n}"]["Containers"])
        for n in (1, 2, 3)
    ] == [(320_000, 300_000, 2), (301_000, 300_000, 0), (301_000, 0, 0)]  # fmt: skip
    other_images = sum(i["Size"] for i in usage["Images"] if i["RepoTags"][0] == "busybox:latest")
    assert usage["LayersSize"] - other_images == 321_000
    text = engine.out("system", "df", "-v", "--format", "{{json .Images}}")
    shown = {i["Tag"]: i for i in json.loads(text) if i["Repository"] == tag}
    assert (shown["1"]["SharedSize"], shown["1"]["UniqueSize"], shown["1"]["Containers"]) == (
        "300kB", "20kB", "2",
    )  # fmt: skip
    reclaimable = engine.out("system", "df", "--format", "{{.Type}} {{.Reclaimable}}")
    assert "300%" not in reclaimable
    assert engine.client.api.images(tag)[0]["SharedSize"] == -1


def test_an_image_without_layers(engine: Engine) -> None:
    tag = fresh("scratch")
    config = {
        "architecture": "amd64", "os": "linux", "config": {"Labels": {"a": "b"}},
        "rootfs": {"type": "layers"}, "created": "2024-01-01T00:00:00Z",
    }  # fmt: skip
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = [{"Config": "c.json", "RepoTags": [f"{tag}:1"], "Layers": None}]
        for name, value in (("c.json", config), ("manifest.json", entry)):
            data = json.dumps(value).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert f"Loaded image: {tag}:1" in engine.out("load", input=out.getvalue())
    name = fresh("c")
    engine.docker("create", "--name", name, f"{tag}:1", "/hello")
    assert engine.out("diff", name) == ""
    engine.docker("cp", "-", f"{name}:/", input=layer("hello", 5))
    assert engine.out("diff", name) == "A /hello"
    assert engine.docker("start", name, check=False).returncode == 1  # it is no program
    engine.docker("rm", name)
    again = engine.docker("save", f"{tag}:1").stdout.encode("utf-8", "surrogateescape")
    ident = engine.out("image", "inspect", "-f", "{{.Id}}", f"{tag}:1")
    engine.docker("rmi", f"{tag}:1")
    engine.docker("load", input=again)
    assert engine.out("image", "inspect", "-f", "{{.Id}} {{.Size}}", f"{tag}:1") == f"{ident} 0"
