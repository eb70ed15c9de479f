from __future__ import annotations

import subprocess
from importlib import resources
from pathlib import Path

from bootstrap import survey


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
    assert facts.files == {f"{tmp_path}/pki/ca.crt": b"ca\x00\n", f"{tmp_path}/pki/etcd/ca.key": b"key"}


def test_an_unknown_architecture_keeps_its_own_name() -> None:
    facts = survey.parse([b"architecture\triscv64", b"address\t10.0.0.1", b"address\t10.0.0.1", b"end\t"])
    assert (facts.architecture, facts.addresses, facts.resolved) == ("riscv64", ("10.0.0.1",), False)
