"""Building for another kind of processor: with the real Go, the real cross compiler, and Debian's real packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap.bundle import catalog, debian, elf
from bootstrap.bundle.foreign import Root
from bootstrap.bundle.gomodules import (
    BuildFailed,
    BuildToolsMissing,
    GoModules,
    Tools,
    check_tools,
    compile_module,
    compile_pause,
    only_builder,
    require_architecture,
    with_libraries,
)
from bootstrap.errors import BootstrapError

ARM = "linux/arm64"


@pytest.fixture(scope="session")
def tools() -> Tools:
    """What builds for arm64; with the cache of the user and not of a test."""
    with only_builder(print):
        return with_libraries(check_tools(ARM), print)


@pytest.fixture(scope="session")
def programs(tools: Tools) -> list[Path]:
    """A program in C, and one in Go."""
    module = catalog.module("flannel-cni")
    with only_builder(print):
        return [compile_pause(tools, print), compile_module(module, module.programs, tools, print) / "flannel"]


def test_programs_are_for_that_processor_and_kept_beside_those_for_this_one(programs: list[Path]) -> None:
    assert [elf.architecture(program) for program in programs] == ["arm64", "arm64"]
    assert programs[0].name.startswith("pause-arm64@")
    assert programs[1].parent.name.startswith("flannel-cni-arm64@")
    require_architecture(programs, "arm64")


def test_one_for_another_processor_is_found_out(programs: list[Path]) -> None:
    with pytest.raises(BuildFailed, match="is for arm64, and amd64 is what is built for"):
        require_architecture(programs, "amd64")


@pytest.mark.parametrize("name", debian.LAYERS)
def test_layers_have_programs_and_all_that_they_load(tools: Tools, name: str) -> None:
    entries = debian.layer(name, tools.root)
    here = {entry.path for entry in debian.layer(name)}
    files = [entry.source for entry in entries if isinstance(entry.source, Path)]
    assert {elf.architecture(file) for file in files} == {"arm64"}
    paths = {entry.path for entry in entries}
    assert "/lib/ld-linux-aarch64.so.1" in paths
    assert {path for path in here if "/bin/" in path or "/sbin/" in path} <= paths
    assert not [path for path in paths if "x86" in path]


def test_a_library_that_is_missing_is_named(tools: Tools, tmp_path: Path) -> None:
    assert tools.root
    program = debian.find("cp", tools.root.path)
    assert program
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/cp").write_bytes(program.read_bytes())
    empty = Root(tmp_path, "arm64")
    with pytest.raises(BootstrapError, match=r"/bin/cp of Debian's arm64 packages needs \S+, of which there is none"):
        empty.libraries([tmp_path / "bin/cp"])


def test_what_is_not_installed_for_it_is_told_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "SEARCH", str(tmp_path))
    with pytest.raises(
        BuildToolsMissing, match="apt-get install -y apt binutils dpkg gcc-aarch64-linux-gnu pkg-config"
    ):
        GoModules(ARM).fill(tmp_path, print)
