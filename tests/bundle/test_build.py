from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_bundle import VERSION, pack, write_bundle

from bootstrap.bundle import manifest, open_bundle
from bootstrap.bundle.build import build
from bootstrap.bundle.existing import ExistingBundle
from bootstrap.bundle.manifest import Manifest
from bootstrap.bundle.reader import BundleError, Progress
from bootstrap.errors import BootstrapError, UsageError


@pytest.fixture
def origin(tmp_path: Path) -> ExistingBundle:
    write_bundle(tmp_path / "origin")
    return ExistingBundle(tmp_path / "origin")


@dataclass(frozen=True)
class Failing:
    """A source that gives half of a bundle and then fails."""

    error: BaseException
    platform: str = "linux/amd64"

    def unreachable(self) -> None:
        pass

    def fill(self, folder: Path, progress: Progress) -> Manifest:
        (folder / manifest.BLOBS / "half").write_bytes(b"half")
        raise self.error


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_bundle_goes_to_the_cache_by_default(origin: ExistingBundle) -> None:
    made = build(origin, None)
    assert open_bundle(None, kubernetes_version=VERSION).manifest == made.manifest


@pytest.mark.parametrize("name", ["copy", "copy.tar"])
def test_a_copy_has_the_same_contents(origin: ExistingBundle, tmp_path: Path, name: str) -> None:
    made = build(origin, tmp_path / name)
    assert made.manifest == open_bundle(origin.path, kubernetes_version=VERSION).manifest
    made.verify()


def test_a_file_becomes_a_folder_again(origin: ExistingBundle, tmp_path: Path) -> None:
    build(ExistingBundle(pack(origin.path, tmp_path / "one.tar")), tmp_path / "folder").verify()


def test_two_files_of_one_bundle_are_the_same_bytes(origin: ExistingBundle, tmp_path: Path) -> None:
    one, other = build(origin, tmp_path / "one.tar"), build(origin, tmp_path / "other.tar")
    assert one.path.read_bytes() == other.path.read_bytes()


def test_a_bundle_with_the_same_contents_stays_as_it_is(origin: ExistingBundle, tmp_path: Path) -> None:
    build(origin, tmp_path / "copy")
    before = (tmp_path / "copy").stat()
    lines: list[str] = []
    build(origin, tmp_path / "copy", lines.append)
    assert (tmp_path / "copy").stat().st_ino == before.st_ino
    assert any("unchanged" in line for line in lines)


def test_a_damaged_bundle_is_replaced(origin: ExistingBundle, tmp_path: Path) -> None:
    made = build(origin, tmp_path / "copy")
    (tmp_path / "copy" / manifest.blob(made.manifest.files[0].sha256)).unlink()
    build(origin, tmp_path / "copy").verify()
    assert hidden(tmp_path) == []


def test_a_damaged_origin_is_refused_and_nothing_made(origin: ExistingBundle, tmp_path: Path) -> None:
    listed = manifest.parse((origin.path / manifest.NAME).read_bytes()).files[0]
    (origin.path / manifest.blob(listed.sha256)).write_bytes(b"x" * listed.size)
    with pytest.raises(BundleError):
        build(origin, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("name", ["copy", "copy.tar"])
def test_a_build_that_fails_leaves_the_old_bundle(origin: ExistingBundle, tmp_path: Path, name: str) -> None:
    build(origin, tmp_path / name)
    with pytest.raises(KeyboardInterrupt):
        build(Failing(KeyboardInterrupt()), tmp_path / name)
    open_bundle(tmp_path / name, kubernetes_version=VERSION).verify()
    assert hidden(tmp_path) == []


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with pytest.raises(BootstrapError, match="no space is left"):
        build(Failing(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))), tmp_path / "copy")


def test_what_a_killed_build_left_is_removed(origin: ExistingBundle, tmp_path: Path) -> None:
    write_bundle(tmp_path / ".copy.999999999.partial")
    build(origin, tmp_path / "copy")
    assert hidden(tmp_path) == []


def test_a_folder_with_other_things_is_not_replaced(origin: ExistingBundle, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")
    with pytest.raises(UsageError, match="something else in it"):
        build(origin, tmp_path / "home")
    assert (tmp_path / "home" / "letter").read_text() == "dear"


def test_a_file_that_does_not_end_in_tar_is_not_replaced(origin: ExistingBundle, tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(UsageError, match=r"\.tar"):
        build(origin, tmp_path / "letter")
