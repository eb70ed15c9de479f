"""What holds for every test: commands that tests start can be interrupted, however the tests were started.

And an API server that many tests ask, with a connection to it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.api import Api
from bootstrap.transport.local import LocalHost
from tests.apiserver import ApiServer, pki, serving


def pytest_configure() -> None:
    # A shell starts what runs in its background with SIGINT ignored, and children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with serving(tmp_path) as running:
        yield running


@pytest.fixture
def api(server: ApiServer) -> Iterator[Api]:
    ca, host = pki("ca.crt"), LocalHost("cp1")
    with Api.connect(host, "127.0.0.1", server.port, server_name="kubernetes", ca=ca, seconds=60) as client:
        yield client
