from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from bootstrap.errors import LabError
from bootstrap.lab import network

ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
tun0\t0000590A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""


def test_routes_are_read_without_the_default_route() -> None:
    assert list(network.routed(ROUTES)) == [IPv4Network("172.17.0.0/16"), IPv4Network("10.89.0.0/16")]


def test_the_first_subnet_that_nobody_has_is_chosen() -> None:
    used = [IPv4Network("10.88.0.0/16"), IPv4Network("10.89.0.0/24"), IPv4Network("10.89.1.128/25")]
    assert network.free_subnet(used) == IPv4Network("10.89.2.0/24")


def test_another_pool_serves_where_a_wide_route_covers_the_first() -> None:
    assert network.free_subnet([IPv4Network("10.0.0.0/8")]) == IPv4Network("172.24.0.0/24")


def test_no_free_subnet_is_an_error() -> None:
    with pytest.raises(LabError, match=r"no /24 of .* is free"):
        network.free_subnet(network.POOLS)


@pytest.mark.parametrize("other", ["10.244.0.0/16", "10.96.0.0/12"])
def test_no_pool_overlaps_the_networks_of_a_cluster(other: str) -> None:
    assert not any(pool.overlaps(IPv4Network(other)) for pool in network.POOLS)
