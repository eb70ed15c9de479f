from __future__ import annotations

import subprocess
from importlib import resources
from pathlib import Path

from bootstrap import survey
from bootstrap.site import Link


def _look(*wanted: str) -> list[bytes]:
    script = resources.files("bootstrap").joinpath("survey.sh").read_bytes()
    return subprocess.run(
        ["sh", "-s", *wanted], input=script, capture_output=True, check=True, timeout=60
    ).stdout.splitlines()


def test_a_real_machine_is_described(tmp_path: Path) -> None:
    (tmp_path / "pki" / "etcd").mkdir(parents=True)
    (tmp_path / "pki" / "ca.crt").write_bytes(b"ca\x00\n")
    (tmp_path / "pki" / "etcd" / "ca.key").write_bytes(b"key")
    facts = survey.parse(_look(f"{tmp_path}/pki", f"{tmp_path}/absent.conf"))
    assert facts.architecture in {"amd64", "arm64"}
    assert facts.hostname
    assert "127.0.0.1" not in facts.addresses
    assert set(facts.addresses) <= {link.address for link in facts.links}
    assert all(Path(f"/sys/class/net/{link.interface}").exists() for link in facts.links)
    assert facts.files == {f"{tmp_path}/pki/ca.crt": b"ca\x00\n", f"{tmp_path}/pki/etcd/ca.key": b"key"}


def test_an_unknown_architecture_keeps_its_own_name() -> None:
    facts = survey.parse([b"architecture\triscv64", b"address\t10.0.0.1", b"address\t10.0.0.1", b"end\t"])
    assert (facts.architecture, facts.addresses, facts.resolved) == ("riscv64", ("10.0.0.1",), False)


def test_an_address_is_told_with_its_interface_and_its_network() -> None:
    lines = [b"link\teth0\t192.0.2.1/24", b"link\ttun0\t198.51.100.1", b"link\teth0\t2001:db8::1/64", b"end\t"]
    assert survey.parse(lines).links == (
        Link("eth0", "192.0.2.1", 24),
        Link("tun0", "198.51.100.1", 32),
        Link("eth0", "2001:db8::1", 64),
    )
