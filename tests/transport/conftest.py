from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import DEFAULTS, SSHD, Server, inventory, needs, running

from bootstrap.transport.base import Host
from bootstrap.transport.ssh import connect


@pytest.fixture(scope="session", autouse=True)
def openssh() -> None:
    needs(SSHD, "ssh-keygen", "ssh-agent", "ssh-add")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any SSH configuration, and no agent."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("sshd")) as one:
        yield one


@pytest.fixture(params=["paramiko", "openssh"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test by each of the two that speak SSH."""
    monkeypatch.setitem(DEFAULTS, "backend", request.param)
    return str(request.param)


@pytest.fixture
def host(server: Server, backend: str) -> Iterator[Host]:
    target = server.host()
    with connect(inventory(target), target) as connected:
        yield connected
