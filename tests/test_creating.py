from __future__ import annotations

import pytest
import yaml

from bootstrap import creating, paths
from bootstrap.errors import UsageError
from bootstrap.importing import Imported
from bootstrap.inventory import InventoryError
from bootstrap.site import Facts


def facts(hostname: str, *addresses: str, files: dict[str, bytes] | None = None) -> Facts:
    return Facts(architecture="amd64", addresses=addresses, hostname=hostname, files=files or {})


def created(servers: dict[str, Facts], *, control_planes: int = 1, **options: str) -> Imported:
    wanted = creating.given(list(servers), **options)
    names = [host.name for host in wanted.hosts]
    return creating.create(wanted, dict(zip(names, servers.values(), strict=True)), control_planes=control_planes)


def test_machines_are_called_what_they_call_themselves_and_the_first_are_control_planes() -> None:
    made = created(
        {
            "ops@192.0.2.10:2222": facts("cp1.example.com", "192.0.2.10"),
            "ops@[2001:db8::7]:2222": facts("Worker_1", "192.0.2.11", "2001:db8::7"),
        },
        proxy_jump="jump.example.com",
    )
    assert yaml.safe_load(made.text) == {
        "apiVersion": "kubestrap.io/v1alpha1",
        "kind": "Inventory",
        "ssh": {"user": "ops", "port": 2222, "proxyJump": "jump.example.com"},
        "hosts": [
            {"name": "cp1.example.com", "address": "192.0.2.10", "roles": ["control-plane"]},
            {"name": "worker-1", "address": "2001:db8::7", "roles": ["worker"]},
        ],
    }
    assert made.notes == ('2001:db8::7: the host is called worker-1 here: "Worker_1" cannot be a new Node',)


def test_one_machine_alone_is_both() -> None:
    assert yaml.safe_load(created({"192.0.2.10": facts("m", "192.0.2.10")}).text)["hosts"][0]["roles"] == [
        "control-plane",
        "worker",
    ]


def test_of_several_addresses_the_one_that_was_given_is_written_and_no_other_is_guessed() -> None:
    several = ("192.0.2.10", "198.51.100.10", "10.244.3.0")
    made = created({"192.0.2.10": facts("cp1", *several), "gateway.example.com": facts("w1", *several)})
    first, second = yaml.safe_load(made.text)["hosts"]
    assert first["nodeAddress"] == "192.0.2.10"
    assert "nodeAddress" not in second
    assert made.notes == (
        "192.0.2.10: it has the addresses 198.51.100.10, too; nodeAddress is the one that you gave",
        (
            "gateway.example.com: write one of its addresses as nodeAddress, the one for the cluster: 192.0.2.10, "
            "198.51.100.10"
        ),
    )


def test_a_machine_that_is_in_a_cluster_is_told() -> None:
    taken = facts("cp1", "192.0.2.10", files={paths.KUBELET_CONF: b"x"})
    assert created({"192.0.2.10": taken}).notes == (
        "192.0.2.10: it is in a cluster already (/etc/kubernetes/kubelet.conf is there)",
    )


def test_every_word_that_is_no_server_is_told() -> None:
    with pytest.raises(UsageError, match=r"no server: 'a@b:c', ''; write \[user@\]address\[:port\]"):
        creating.given(["a@b:c", "192.0.2.1", ""])
    with pytest.raises(UsageError, match=r"given more than once: 192\.0\.2\.1$"):
        creating.given(["192.0.2.1", "192.0.2.1"])
    with pytest.raises(InventoryError, match=r"192\.0\.2\.999"):
        creating.given(["192.0.2.999"])


def test_there_cannot_be_more_control_planes_than_machines() -> None:
    with pytest.raises(UsageError, match="3 control planes are wanted of 1 machines"):
        created({"192.0.2.10": facts("m", "192.0.2.10")}, control_planes=3)
