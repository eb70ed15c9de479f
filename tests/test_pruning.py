"""Who is in a cluster, and not in the inventory."""

from __future__ import annotations

from typing import Any

from bootstrap.etcd.members import Member, Seen
from bootstrap.etcd.membership import Quorum
from bootstrap.pruning import Stray, compare
from bootstrap.spec import Host, Inventory

INVENTORY = Inventory(
    hosts=(
        Host(name="cp1", address="192.0.2.1", roles=("control-plane",)),
        Host(name="w1", address="192.0.2.11", roles=("worker",)),
    )
)


def node(name: str, *roles: str, ready: bool = True) -> dict[str, Any]:
    labels = {f"node-role.kubernetes.io/{role}": "" for role in roles}
    conditions = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
    metadata = {"name": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "status": {"conditions": conditions}}


def member(number: int, name: str, address: str, *, learner: bool = False) -> Member:
    return Member(number, name, learner, (f"https://{address}:2380",))


def quorum(*members: Member) -> Quorum:
    return Quorum(Seen({}, members), {})


def test_nodes_and_members_that_the_inventory_lacks_are_found() -> None:
    nodes = [node("cp1", "control-plane"), node("w1"), node("cp2", "control-plane", ready=False), node("w2", "worker")]
    members = [member(1, "cp1", "192.0.2.1"), member(2, "cp2", "192.0.2.2"), member(3, "cp3", "192.0.2.3")]
    assert compare(INVENTORY, nodes, quorum(*members)) == [
        Stray("cp2", "control-plane", "NotReady", "member", "2026-01-01T00:00:00Z"),
        Stray("cp3", "etcd", "none", "member", ""),
        Stray("w2", "worker", "Ready", "-", "2026-01-01T00:00:00Z"),
    ]


def test_a_member_that_never_started_is_known_by_its_address() -> None:
    ours, theirs = member(1, "", "192.0.2.1", learner=True), member(2, "", "192.0.2.9", learner=True)
    assert compare(INVENTORY, [], quorum(ours, theirs)) == [
        Stray("https://192.0.2.9:2380", "etcd", "none", "learner", "")
    ]


def test_where_others_run_etcd_nodes_alone_are_compared() -> None:
    assert compare(INVENTORY, [node("cp1"), node("w1")], None) == []
