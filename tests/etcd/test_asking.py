"""Calls of a member, and what comes of those that fail."""

from __future__ import annotations

import shlex

import pytest

from bootstrap.errors import EtcdAbsent, EtcdRefused, EtcdUnreachable, HostError, LockLost, Unreachable
from bootstrap.etcd import asking
from bootstrap.transport.base import Result
from tests.etcd.members import REFUSED, UNCONFIRMED, Etcd


def test_members_are_asked_each_for_itself_and_those_that_fail_are_told_by_host() -> None:
    etcd = Etcd(("cp1", "cp2", "cp3"), down={"cp2"})
    hosts = {name: host for name, host in etcd.hosts.items() if name != "cp3"}
    seen, failures = asking.look(hosts, {"cp3": Unreachable("cp3", "no route")})
    assert list(seen.statuses) == ["cp1"]
    assert {name: type(error) for name, error in failures.items()} == {"cp3": Unreachable, "cp2": EtcdUnreachable}
    assert seen.silent == []
    assert [member.name for member in seen.members] == ["cp1", "cp2", "cp3"]


@pytest.mark.parametrize(
    ("result", "kind", "told"),
    [
        (Result(64, b"", b""), EtcdAbsent, "run `kubestrap init` first"),
        (Result(9, b"", b"the lock ..."), LockLost, "lock was lost"),
        (Result(124, b"", b""), EtcdUnreachable, "no answer to /v3/kv/range within 20 s"),
        (Result(1, b"", b""), EtcdUnreachable, "nothing was said"),
        (REFUSED, EtcdUnreachable, "The connection to the server 127.0.0.1:2379 was refused. `kubestrap init`"),
        (UNCONFIRMED, EtcdRefused, "more than half of the members must run"),
        (Result(0, b"<html>", b""), EtcdRefused, "is no JSON"),
    ],
)
def test_each_way_to_fail_is_told_apart(result: Result, kind: type[HostError], told: str) -> None:
    etcd = Etcd(("cp1",), on=lambda *_: result)
    with pytest.raises(kind, match="cp1") as caught:
        asking.require_health(etcd.hosts["cp1"])
    assert told in str(caught.value)


def test_a_key_is_named_in_the_command_by_its_path_alone() -> None:
    words = shlex.split(asking.command("/v3/maintenance/status", 20))
    assert words[words.index("--client-key") + 1] == "/etc/kubernetes/pki/etcd/healthcheck-client.key"
    assert words[words.index("--kubeconfig") + 1] == "/dev/null"
