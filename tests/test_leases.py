"""The Lease of changes of the control plane, against a server that answers as the API does."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from bootstrap import leases
from bootstrap.api import Api
from bootstrap.errors import LeaseHeld, LeaseLost
from bootstrap.leases import CONTROL_PLANE, held
from bootstrap.lock import Owner
from bootstrap.transport.local import LocalHost
from tests.apiserver import Answer, ApiServer, Request, pki, status

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{CONTROL_PLANE}"
ANNE = Owner("anne@desk (process 1)", "kubestrap join", "2026-01-01 00:00:00 UTC")
BOB = Owner("bob@desk (process 2)", "kubestrap remove", "2026-01-01 00:00:01 UTC")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.02)
    monkeypatch.setattr(leases, "SECONDS", 1)


@pytest.fixture
def connect(server: ApiServer) -> Callable[[], Api]:
    ca, host = pki("ca.crt"), LocalHost("cp1")
    return lambda: Api.connect(host, "127.0.0.1", server.port, server_name="kubernetes", ca=ca, seconds=60)


def unheard(_what: str, _elapsed: float, _limit: float) -> None:
    pass


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        threading.Event().wait(0.02)
    raise AssertionError("it did not come about")


def check_for_long(holding: leases.Holding) -> None:
    for _ in range(500):
        holding.check()
        threading.Event().wait(0.02)


def wait_lost(holding: leases.Holding) -> None:
    with pytest.raises(LeaseLost):
        check_for_long(holding)


def test_it_is_held_renewed_and_given_up(server: ApiServer, connect: Callable[[], Api]) -> None:
    with connect() as api:
        assert not leases.exists(api)
    with held(connect, ANNE, unheard) as holding:
        first = server.objects[LEASE]["spec"]
        assert "anne@desk" in first["holderIdentity"]
        assert "kubestrap join" in first["holderIdentity"]
        wait_for(lambda: server.objects[LEASE]["spec"]["renewTime"] != first["renewTime"])
        holding.check()
    assert not server.objects[LEASE]["spec"].get("holderIdentity")
    with held(connect, BOB, unheard):
        assert "bob@desk" in server.objects[LEASE]["spec"]["holderIdentity"]
    with connect() as api:
        assert leases.exists(api)


def test_one_of_a_living_run_is_refused_with_its_name(connect: Callable[[], Api]) -> None:
    with (
        held(connect, ANNE, unheard),
        pytest.raises(LeaseHeld, match=r"anne@desk.* runs `kubestrap join`"),
        held(connect, BOB, unheard),
    ):
        raise AssertionError("two hold it")


def test_one_of_a_dead_run_is_waited_for_and_taken(server: ApiServer, connect: Callable[[], Api]) -> None:
    server.put(LEASE, {"metadata": {"name": CONTROL_PLANE}, "spec": {"holderIdentity": "anne@desk"}})
    told: list[str] = []
    with held(connect, BOB, lambda what, _elapsed, _limit: told.append(what)):
        assert "bob@desk" in server.objects[LEASE]["spec"]["holderIdentity"]
    assert "anne@desk" in told[0]


def test_it_is_lost_to_another_holder(server: ApiServer, connect: Callable[[], Api]) -> None:
    with held(connect, ANNE, unheard) as holding:
        server.put(LEASE, {"metadata": {"name": CONTROL_PLANE}, "spec": {"holderIdentity": "bob@desk"}})
        wait_lost(holding)
    assert server.objects[LEASE]["spec"]["holderIdentity"] == "bob@desk"


def test_it_is_lost_where_it_cannot_be_renewed(server: ApiServer, connect: Callable[[], Api]) -> None:
    with held(connect, ANNE, unheard) as holding:
        server.before = lambda _request: status(403, "Forbidden", "not any more")
        wait_lost(holding)


def test_a_renewal_whose_answer_was_lost_is_not_taken_for_anothers(
    server: ApiServer, connect: Callable[[], Api]
) -> None:
    with held(connect, ANNE, unheard) as holding:
        lost: list[Request] = []

        def before(request: Request) -> Answer | str | None:
            if request.method == "PATCH" and not lost:
                lost.append(request)
                server.answer(request)
                return "hang up"
            return None

        server.before = before
        wait_for(lambda: bool(lost))
        version = server.version
        wait_for(lambda: server.version > version + 2)
        holding.check()
