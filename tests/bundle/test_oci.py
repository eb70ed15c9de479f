from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

from bootstrap.bundle.oci import Config, Entry, write_image, write_layer

REFERENCE = "registry.example/team/tool:v1"


def layer(*entries: Entry) -> bytes:
    to = io.BytesIO()
    write_layer(entries, to)
    return to.getvalue()


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar}


def image(folder: Path, name: str = "image.tar") -> tuple[Path, str]:
    program = folder / "program"
    program.write_bytes(b"\x7fELF tool")
    layers = [[Entry("/etc/passwd", b"root:x:0:0\n", mode=0o644)], [Entry("/usr/local/bin/tool", program)]]
    path = folder / name
    return path, write_image(layers, Config(("/usr/local/bin/tool", "-x"), user="1:1"), REFERENCE, "linux/amd64", path)


def files(archive: Path) -> dict[str, bytes]:
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is not None:
                found[member.name] = file.read()
    return found


def document(found: dict[str, bytes], descriptor: dict[str, Any]) -> dict[str, Any]:
    data = found["blobs/" + descriptor["digest"].replace(":", "/")]
    assert len(data) == descriptor["size"]
    assert descriptor["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    value: dict[str, Any] = json.loads(data)
    return value


def test_a_layer_does_not_depend_on_order_or_times(tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.write_bytes(b"1")
    entries = [Entry("/a/one", one), Entry("/b", b"2", mode=0o600), Entry("/c", link="b")]
    first = layer(*entries)
    os.utime(one, (1, 1))
    assert layer(*reversed(entries)) == first


def test_every_member_is_roots_and_without_a_time() -> None:
    for member in members(layer(Entry("/a/one", b"1"), Entry("/c", link="b"))).values():
        assert (member.uid, member.gid, member.mtime, member.uname) == (0, 0, 0, "")


def test_directories_above_an_entry_come_before_it() -> None:
    assert list(members(layer(Entry("/opt/bin/tool", b"1")))) == ["opt", "opt/bin", "opt/bin/tool"]


def test_a_listed_directory_keeps_its_mode() -> None:
    found = members(layer(Entry("/tmp/x", b"1", mode=0o644), Entry("/tmp", mode=0o1777)))
    assert found["tmp"].isdir()
    assert found["tmp"].mode == 0o1777
    assert found["tmp/x"].mode == 0o644


def test_an_image_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    (first, target), (second, again) = image(tmp_path, "1.tar"), image(tmp_path, "2.tar")
    assert target == again
    assert first.read_bytes() == second.read_bytes()


def test_the_index_leads_to_the_target_under_both_names(tmp_path: Path) -> None:
    path, target = image(tmp_path)
    found = files(path)
    assert json.loads(found["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (descriptor,) = json.loads(found["index.json"])["manifests"]
    assert descriptor["digest"] == target
    assert set(descriptor["annotations"].values()) == {REFERENCE}


def test_layers_and_configuration_are_what_the_manifest_says(tmp_path: Path) -> None:
    path, _ = image(tmp_path)
    found = files(path)
    manifest = document(found, json.loads(found["index.json"])["manifests"][0])
    config = document(found, manifest["config"])
    assert config["config"]["Entrypoint"] == ["/usr/local/bin/tool", "-x"]
    assert config["config"]["User"] == "1:1"
    assert config["rootfs"]["diff_ids"] == [listed["digest"] for listed in manifest["layers"]]
    last = found["blobs/" + manifest["layers"][-1]["digest"].replace(":", "/")]
    assert members(last)["usr/local/bin/tool"].mode == 0o755


def test_nothing_is_left_beside_the_image(tmp_path: Path) -> None:
    image(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["image.tar", "program"]
