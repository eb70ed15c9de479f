"""Who is refused, against a server that answers as the API does; a real one refuses in tests/lab/test_remove.py."""

from __future__ import annotations

import pytest

from bootstrap import removed
from bootstrap.api import Api
from bootstrap.site import Facts, Node
from bootstrap.spec import Host
from tests.apiserver import ApiServer

LIST = "/api/v1/namespaces/kube-system/configmaps/kubestrap-removed"
POLICIES = [
    f"/apis/admissionregistration.k8s.io/v1/{kind}/kubestrap-removed"
    for kind in ("validatingadmissionpolicies", "validatingadmissionpolicybindings")
]


def node(name: str, **facts: object) -> Node:
    return Node(Host(name=name, address="192.0.2.1", roles=("worker",)), "192.0.2.1", Facts(**facts))  # type: ignore[arg-type]


def test_the_policy_is_there_as_long_as_somebody_is_refused(server: ApiServer, api: Api) -> None:
    assert not removed.admit(api, ["w1"])
    assert server.objects == {}
    assert removed.refuse(api, {"w1": "id1"}) == {"w1"}
    assert removed.refuse(api, {"w1": "", "w2": ""}) == {"w2"}
    assert removed.listed(api) == {"w1": "id1", "w2": ""}
    assert all(path in server.objects for path in POLICIES)
    # A kubelet does not log the words of what is Forbidden.
    assert [each["reason"] for each in server.objects[POLICIES[0]]["spec"]["validations"]] == ["Invalid"]
    server.objects[LIST]["data"] = {"w1": "id1"}  # a merge, as the server here does it, takes nothing away
    assert removed.admit(api, ["w1"])
    assert server.objects == {}


def test_a_policy_that_a_killed_run_left_out_is_made(server: ApiServer, api: Api) -> None:
    removed.refuse(api, {"w1": "id1"})
    del server.objects[POLICIES[1]]
    removed.refuse(api, {"w1": "id1"})
    assert POLICIES[1] in server.objects


@pytest.mark.parametrize("left", [{"bootstrapped": True}, {"etcd_data": True}])
def test_a_machine_that_comes_back_as_it_was_is_not_joined(api: Api, left: dict[str, bool]) -> None:
    removed.refuse(api, {"w1": "id1"})
    wrong = removed.unclean(api, [node("w1", machine="id1", **left)])
    assert "kubestrap remove w1" in str(wrong["w1"])
    assert removed.listed(api) == {"w1": "id1"}


@pytest.mark.parametrize("facts", [{"machine": "id1"}, {"machine": "id2", "bootstrapped": True}])
def test_a_clean_machine_and_another_one_of_the_name_are_joined(
    server: ApiServer, api: Api, facts: dict[str, object]
) -> None:
    removed.refuse(api, {"w1": "id1"})
    assert removed.unclean(api, [node("w1", **facts), node("w2", machine="id3", bootstrapped=True)]) == {}
    removed.admit(api, ["w1", "w2"])
    assert server.objects == {}
