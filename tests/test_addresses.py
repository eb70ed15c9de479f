from __future__ import annotations

import pytest

from bootstrap.addresses import node_address
from bootstrap.errors import NodeAddressUnclear
from bootstrap.spec import Host, Networking


def host(node_address: str | None = None) -> Host:
    return Host.model_validate(
        {"name": "node1", "address": "192.0.2.1", "roles": ["worker"], "nodeAddress": node_address}
    )


def test_the_only_address_is_taken() -> None:
    assert node_address(host(), ["127.0.0.1", "10.0.0.5", "fe80::1"], Networking()) == "10.0.0.5"


def test_addresses_of_pods_and_services_do_not_count() -> None:
    assert node_address(host(), ["10.0.0.5", "10.244.0.1", "10.244.0.0", "10.96.0.1"], Networking()) == "10.0.0.5"


def test_addresses_of_another_family_do_not_count() -> None:
    assert node_address(host(), ["10.0.0.5", "2001:db8::5"], Networking()) == "10.0.0.5"


def test_one_address_on_two_interfaces_is_one() -> None:
    assert node_address(host(), ["10.0.0.5", "10.0.0.5"], Networking()) == "10.0.0.5"


def test_several_addresses_are_named_and_none_is_guessed() -> None:
    with pytest.raises(NodeAddressUnclear) as refused:
        node_address(host(), ["10.0.0.5", "172.17.0.1"], Networking())
    assert "10.0.0.5, 172.17.0.1" in str(refused.value)
    assert refused.value.exit_code == 3


def test_the_given_address_is_taken_of_several() -> None:
    assert node_address(host("172.17.0.1"), ["10.0.0.5", "172.17.0.1"], Networking()) == "172.17.0.1"


def test_a_given_address_that_the_machine_lacks_is_refused() -> None:
    with pytest.raises(NodeAddressUnclear, match=r"does not have the nodeAddress 10.0.0.6; it has 10.0.0.5"):
        node_address(host("10.0.0.6"), ["10.0.0.5"], Networking())


def test_a_machine_without_any_usable_address_is_refused() -> None:
    with pytest.raises(NodeAddressUnclear, match="no IPv4 address"):
        node_address(host(), ["127.0.0.1", "2001:db8::5"], Networking())
