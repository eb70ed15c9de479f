from __future__ import annotations

from pathlib import Path

import pytest
from fake_bundle import VERSION, write_bundle

from bootstrap import cli
from bootstrap.bundle import manifest


def test_show_lists_every_file_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = write_bundle(tmp_path / "bundle")
    assert cli.run(["bundle", "show", str(tmp_path / "bundle")]) == 0
    out = capsys.readouterr().out
    assert f"Kubernetes {VERSION} for linux/amd64" in out
    assert all(listed.sha256[:12] in out for listed in made.files)


def test_images_are_listed_one_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = write_bundle(tmp_path / "bundle", platform="linux/arm64")
    assert cli.run(["bundle", "images", str(tmp_path / "bundle")]) == 0
    assert capsys.readouterr().out.splitlines() == [image.reference for image in made.contents.images]


def test_verify_of_a_whole_bundle_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bundle(tmp_path / "bundle")
    assert cli.run(["bundle", "verify", str(tmp_path / "bundle")]) == 0
    assert "files are as its manifest says" in capsys.readouterr().out


def test_verify_of_a_damaged_bundle_names_the_file_and_gives_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = write_bundle(tmp_path / "bundle").files[0]
    (tmp_path / "bundle" / manifest.blob(listed.sha256)).write_bytes(b"x" * listed.size)
    assert cli.run(["bundle", "verify", str(tmp_path / "bundle")]) == 3
    assert listed.sha256 in capsys.readouterr().err


def test_without_a_bundle_show_says_how_to_make_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["bundle", "show"]) == 3
    assert "kubestrap bundle build" in capsys.readouterr().err


def test_build_from_a_bundle_prints_where_the_copy_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bundle(tmp_path / "bundle")
    to = tmp_path / "copy.tar"
    assert cli.run(["bundle", "build", "--from", str(tmp_path / "bundle"), "--to", str(to)]) == 0
    assert capsys.readouterr().out == f"{to}\n"
    assert cli.run(["bundle", "verify", str(to)]) == 0
