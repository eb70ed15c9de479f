"""A cluster whose CA keys stay with the operator: made, joined and found right again, with no such key on a machine.

The tests go on from each other. Costs about 60 s on two machines of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from bootstrap import paths
from tests.lab.clusters import Cluster, changes

NewCluster = Callable[[str, int], AbstractContextManager[Cluster]]
MACHINES = ("cp1", "worker1")


def kept_by_the_operator(data: dict[str, Any]) -> None:
    data["cluster"]["certificateAuthority"] = {"kind": "operator", "directory": "ca"}


@pytest.fixture(scope="module")
def kept(new_cluster: NewCluster) -> Iterator[Cluster]:
    with new_cluster("operator", 2) as made:
        made.write_inventory(MACHINES, kept_by_the_operator)
        yield made


def test_a_cluster_is_made_and_joined_with_no_key_of_a_ca_on_any_machine(kept: Cluster) -> None:
    kept.kubestrap("init", "--dry-run")
    folder = kept.home / "ca"
    assert not folder.exists()
    kept.kubestrap("apply")
    kept.wait_ready(MACHINES)
    keys = [folder / f"{name}.key" for name in ("ca", "front-proxy-ca", "etcd/ca")]
    assert [key.stat().st_mode & 0o777 for key in keys] == [0o600] * 3
    assert folder.stat().st_mode & 0o777 == 0o700
    lines = "".join(f"{key.read_text().splitlines()[1]}\n" for key in keys)
    assert len(lines) > 100
    for machine in MACHINES:
        kept.on(machine, f"test ! -e {paths.PKI}/ca.key")
        found = kept.ssh(
            machine, "grep -r -l -F -f - /etc /root /run /tmp /var/lib/kubelet /var/lib/kubestrap", stdin=lines
        )
        assert found.stdout == ""
    for file in ("sa.key", "apiserver.key"):
        kept.on("cp1", f"test -s {paths.PKI}/{file}")


def test_a_second_run_changes_nothing_and_every_check_passes(kept: Cluster) -> None:
    for command in ("init", "join"):
        assert changes(kept.kubestrap(command).stderr) == []
    kept.kubestrap("verify")
    assert kept.get("certificatesigningrequests")["items"] == []


def test_a_kubelets_certificate_that_is_gone_is_issued_anew_by_join(kept: Cluster) -> None:
    before = kept.on("worker1", f"cat {paths.KUBELET_CLIENT_CERT} && rm {paths.KUBELET_CLIENT_ISSUED}")
    told = kept.kubestrap("join").stderr
    assert any(paths.KUBELET_CLIENT_ISSUED in line for line in changes(told))
    after = kept.on("worker1", f"cat {paths.KUBELET_CLIENT_CERT}")
    assert "PRIVATE KEY" in after
    assert after != before
    kept.wait_ready(MACHINES)
    assert changes(kept.kubestrap("join").stderr) == []


def test_what_would_need_the_key_in_the_cluster_is_refused(kept: Cluster) -> None:
    assert "do not leave" in kept.kubestrap("certs", "upload", status=3).stderr
    server = ("--server", "192.0.2.1:6443", "--ca-cert-hash", f"sha256:{'0' * 64}", "--token-file", "-")
    refused = kept.kubestrap("join", *server, stdin="abcdef.0123456789abcdef\n", status=3)
    assert "nobody in the cluster signs" in refused.stderr
