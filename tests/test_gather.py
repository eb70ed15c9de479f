from __future__ import annotations

import pytest

from bootstrap import tokens
from bootstrap.errors import OtherCluster
from bootstrap.gather import require_ca
from tests import apiserver


def test_a_machine_of_another_cluster_than_the_inventory_names_is_refused() -> None:
    ca = apiserver.pki("ca.crt")
    mine = tokens.ca_cert_hash(ca)
    require_ca("cp1", ca, mine)
    require_ca("cp1", None, mine)
    require_ca("cp1", b"nonsense", None)
    for held in (apiserver.pki("etcd/ca.crt"), b"nonsense"):
        with pytest.raises(OtherCluster, match=r"^cp1: it is in another cluster: its /etc/kubernetes/pki/ca\.crt"):
            require_ca("cp1", held, mine)
