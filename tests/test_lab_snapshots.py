from __future__ import annotations

from pathlib import Path

from bootstrap.lab import snapshots

BLOB = "io.containerd.content.v1.content/blobs/sha256/abc"
UNPACKED = "io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs/bin/tool"
DATABASE = "io.containerd.snapshotter.v1.overlayfs/metadata.db"


def test_a_copy_shares_what_is_never_written_again_and_nothing_else(tmp_path: Path) -> None:
    source, target = volume(tmp_path)
    snapshots.copy(source, target)
    for name in (BLOB, UNPACKED):
        assert (target / name).stat().st_ino == (source / name).stat().st_ino
    assert (target / DATABASE).stat().st_ino != (source / DATABASE).stat().st_ino


def test_a_copy_has_the_same_contents_modes_and_links(tmp_path: Path) -> None:
    source, target = volume(tmp_path)
    snapshots.copy(source, target)
    assert {path.relative_to(target) for path in target.rglob("*")} == {
        path.relative_to(source) for path in source.rglob("*")
    }
    assert (target / DATABASE).read_text() == DATABASE
    assert (target / DATABASE).stat().st_mode & 0o7777 == 0o640
    assert (target / "link").readlink() == Path("nowhere")
    assert (source / DATABASE).stat().st_nlink == 1


def volume(folder: Path) -> tuple[Path, Path]:
    source, target = folder / "source", folder / "target"
    for name in (BLOB, UNPACKED, DATABASE):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (source / DATABASE).chmod(0o640)
    (source / "link").symlink_to("nowhere")
    target.mkdir()
    return source, target
