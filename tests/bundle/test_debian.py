from __future__ import annotations

from pathlib import Path

from bootstrap.bundle import catalog, debian


def test_cp_comes_with_the_libraries_it_needs() -> None:
    paths = {entry.path for entry in debian.layer("cp")}
    assert "/bin/cp" in paths
    assert any("/libc.so" in path for path in paths)
    assert any("/ld-linux" in path for path in paths)


def test_a_layer_is_of_files_and_not_of_links_to_elsewhere() -> None:
    for entry in debian.layer("cp"):
        assert isinstance(entry.source, Path)
        assert entry.source.is_file()


def test_every_layer_that_an_image_names_can_be_made() -> None:
    assert {name for image in catalog.IMAGES for name in image.tools} <= set(debian.LAYERS)


def test_every_program_of_a_layer_has_a_package_to_name() -> None:
    assert {program for programs in debian.LAYERS.values() for program in programs} <= set(debian.PACKAGES)


def test_programs_are_found_on_the_systems_path_alone() -> None:
    assert debian.find("ls") is not None
    assert debian.find("no-such-program") is None
