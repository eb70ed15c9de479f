"""What holds for every test: commands that tests start can be interrupted, however the tests were started.

And what many of them use: the command on PATH, and an API server with a connection to it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.api import Api
from bootstrap.transport.local import LocalHost
from tests.apiserver import ApiServer, pki, serving

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    # A shell starts what runs in its background with SIGINT ignored, and children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def path_with_command(tmp_path: Path) -> str:
    """Give a PATH on which `kubestrap` is the command of this checkout."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "kubestrap"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m bootstrap "$@"\n')
    command.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with serving(tmp_path) as running:
        yield running


@pytest.fixture
def api(server: ApiServer) -> Iterator[Api]:
    ca, host = pki("ca.crt"), LocalHost("cp1")
    with Api.connect(host, "127.0.0.1", server.port, server_name="kubernetes", ca=ca, seconds=60) as client:
        yield client
