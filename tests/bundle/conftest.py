from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import FileServer, RegistryServer, build_registry, running_registry, serving_files


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "kubestrap"


@pytest.fixture
def file_server(tmp_path: Path) -> Iterator[FileServer]:
    with serving_files(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def registry_program() -> Path:
    """The registry, from the cache of the user and not of a test."""
    return build_registry()


@pytest.fixture
def registry(registry_program: Path, tmp_path: Path) -> Iterator[RegistryServer]:
    with running_registry(registry_program, tmp_path / "registry") as server:
        yield server
