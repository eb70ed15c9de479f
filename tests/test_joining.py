"""The token of a run that makes the cluster, too: it is gone when the run is over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bootstrap import paths, tokens
from bootstrap.api import Api
from bootstrap.errors import HostError
from bootstrap.joining import DOING
from bootstrap.transport.local import LocalHost
from tests import apiserver


def asking(server: apiserver.ApiServer) -> Callable[[], Api]:
    conf = apiserver.files()[paths.ADMIN_CONF]
    return lambda: Api.from_kubeconfig(LocalHost("cp1"), conf, address="127.0.0.1", port=server.port)


@pytest.mark.parametrize("error", [HostError, KeyboardInterrupt])
def test_a_token_is_deleted_where_a_run_fails(tmp_path: Path, error: type[BaseException]) -> None:
    def run(server: apiserver.ApiServer) -> None:
        with DOING.promise(asking(server), lambda: True) as promise:
            name = tokens.secret_name(promise.token.id)
            server.put(f"/api/v1/namespaces/{tokens.NAMESPACE}/secrets/{name}", {})
            raise error("cp1", "it fails")

    with apiserver.serving(tmp_path) as server:
        with pytest.raises(error):
            run(server)
        assert server.objects == {}
        assert [request.method for request in server.requests] == ["DELETE"]


def test_nobody_is_asked_to_delete_a_token_that_he_was_not_given(tmp_path: Path) -> None:
    # Where the API server does not run yet, that would be waited for.
    with apiserver.serving(tmp_path) as server:
        with pytest.raises(HostError), DOING.promise(asking(server), lambda: False):
            raise HostError("cp1", "it fails")
        assert server.requests == []
