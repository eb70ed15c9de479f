"""When a host may be taken for lost, and what is refused before anything; hosts are removed in tests/lab."""

from __future__ import annotations

import pytest

from bootstrap import removal
from bootstrap.api import Api
from bootstrap.errors import HostError, Unreachable, UsageError
from bootstrap.events import Event, Listener, Waiting
from bootstrap.removal import Choice, Leaving
from bootstrap.spec import Host, Inventory
from tests.apiserver import Answer, ApiServer, Request

NODE = "/api/v1/nodes/cp3"
BEAT = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/cp3"
LOST = Leaving("cp3", None, Unreachable("cp3", "no route to it"), {}, None, is_ours=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "_PAUSE", 0.01)


def set_ready(server: ApiServer, status: str) -> None:
    conditions = [{"type": "Ready", "status": status}]
    server.put(NODE, {"metadata": {"name": "cp3"}, "status": {"conditions": conditions}})


def beat(server: ApiServer, at: str) -> None:
    server.put(BEAT, {"metadata": {"name": "cp3"}, "spec": {"renewTime": at}})


def require_dead(api: Api, listener: Listener, choice: Choice, *, in_touch: bool = False) -> None:
    removal.require_dead(api, LOST, lambda: in_touch, listener, choice)


def test_a_host_that_is_not_reached_is_lost_only_where_the_user_says_so(api: Api) -> None:
    with pytest.raises(HostError, match=r"not reached \(no route to it\).*give --dead"):
        require_dead(api, lambda _: None, Choice())
    require_dead(api, lambda _: None, Choice(dead=True))


def test_the_cluster_has_to_take_it_for_lost_too(server: ApiServer, api: Api) -> None:
    set_ready(server, "True")
    beat(server, "1")
    asked: list[Request] = []

    def before(request: Request) -> Answer | None:
        asked.append(request)
        if len(asked) == 8:
            set_ready(server, "Unknown")
        return None

    server.before = before
    events: list[Event] = []
    require_dead(api, events.append, Choice(dead=True))
    assert [event for event in events if isinstance(event, Waiting)]


@pytest.mark.parametrize("beats", [True, False])
def test_one_whose_kubelet_gives_signs_is_alive(
    server: ApiServer, api: Api, monkeypatch: pytest.MonkeyPatch, beats: bool
) -> None:
    set_ready(server, "True")
    beat(server, "1")
    if beats:
        server.before = lambda request: beat(server, str(len(server.requests))) if request.path == BEAT else None
    else:
        monkeypatch.setattr(removal, "SILENCE_SECONDS", 0.1)
    with pytest.raises(HostError, match="it is alive"):
        require_dead(api, lambda _: None, Choice(dead=True))
    require_dead(api, lambda _: None, Choice(dead=True, force=True))


def test_one_whose_member_talks_to_others_is_alive(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "SILENCE_SECONDS", 0.1)
    with pytest.raises(HostError, match="its etcd member talks to the others"):
        require_dead(api, lambda _: None, Choice(dead=True), in_touch=True)


def test_the_last_control_plane_host_is_no_case_for_remove() -> None:
    hosts = [Host(name=f"cp{n}", address=f"192.0.2.{n}", roles=("control-plane",)) for n in (1, 2)]
    worker = Host(name="w1", address="192.0.2.11", roles=("worker",))
    inventory = Inventory(hosts=(*hosts, worker))
    assert [host.name for host in removal.without(inventory, ["cp1", "w1"]).hosts] == ["cp2"]
    with pytest.raises(UsageError, match="kubestrap reset"):
        removal.without(inventory, ["cp1", "cp2"])


def test_it_is_waited_for_that_pods_are_led_to_no_api_server_that_has_gone(server: ApiServer, api: Api) -> None:
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    looks = 0

    def slices(request: Request) -> Answer | None:
        nonlocal looks
        if not request.path.startswith(path):
            return None
        looks += 1
        led = ["192.0.2.1", "192.0.2.2"] if looks == 1 else ["192.0.2.1"]
        return 200, {"items": [{"endpoints": [{"addresses": [address]} for address in led]}, {"endpoints": None}]}

    server.before = slices
    told: list[Event] = []
    gone = {"cp2": ["192.0.2.2"], "worker1": ["192.0.2.11"]}
    assert removal.still_led_to(api, gone, told.append, seconds=30) == []
    assert [event.host for event in told if isinstance(event, Waiting)] == ["cp2"]
    assert removal.still_led_to(api, {"cp1": ["192.0.2.1"]}, told.append, seconds=0) == ["cp1"]
