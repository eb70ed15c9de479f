from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_bundle import write_bundle

from bootstrap.bundle import catalog, manifest


@pytest.fixture
def written(tmp_path: Path) -> dict[str, Any]:
    made = write_bundle(tmp_path / "bundle")
    data: dict[str, Any] = json.loads(manifest.dump(made))
    return data


def refused(raw: object) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        manifest.parse(json.dumps(raw).encode())
    return str(error.value)


def test_what_is_written_reads_back_the_same(tmp_path: Path) -> None:
    made = write_bundle(tmp_path / "bundle")
    assert manifest.parse(manifest.dump(made)) == made


def test_contents_have_every_program_and_image(tmp_path: Path) -> None:
    contents = write_bundle(tmp_path / "bundle").contents
    assert "/usr/local/bin/kubelet" in {binary.path for binary in contents.binaries}
    assert "/opt/cni/bin/flannel" in {binary.path for binary in contents.binaries}
    assert [image.name for image in contents.images] == [image.name for image in catalog.IMAGES]


@pytest.mark.parametrize("place", ["/usr/local/bin/kubelet", "image etcd"])
def test_a_manifest_that_lacks_something_names_it(written: dict[str, Any], place: str) -> None:
    written["files"] = [
        listed for listed in written["files"] if place not in (listed.get("path"), f"image {listed['name']}")
    ]
    assert f"{place} is not listed" in refused(written)


def test_a_file_listed_twice_is_named(written: dict[str, Any]) -> None:
    written["files"].append(written["files"][0])
    assert "/usr/local/bin/kubelet is listed more than once" in refused(written)


def test_a_blob_of_two_sizes_is_named(written: dict[str, Any]) -> None:
    written["files"][0]["sha256"] = written["files"][-1]["sha256"]
    assert "is listed with two sizes" in refused(written)


def test_a_newer_schema_is_told_as_such(written: dict[str, Any]) -> None:
    written["schemaVersion"] = 2
    assert "newer kubestrap" in refused(written)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("path", "/usr/local/bin/../../etc/passwd"),
        ("path", "usr/local/bin/kubelet"),
        ("path", "/usr/local/bin/kube\nlet"),
        ("sha256", "../../etc/passwd"),
        ("size", -1),
        ("size", "12"),
        ("kind", "script"),
        ("unknown", "x"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused(written: dict[str, Any], field: str, value: object) -> None:
    written["files"][0][field] = value
    assert "files.0" in refused(written)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_not_a_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        manifest.parse(data)
