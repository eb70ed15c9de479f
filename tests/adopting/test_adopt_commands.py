from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap import cli
from bootstrap.adopt_commands import write
from bootstrap.errors import UsageError


def test_an_inventory_that_is_there_is_never_written_over_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "inventory.yaml"
    there.write_text("mine\n")
    assert cli.run(["adopt", "192.0.2.1", "-i", str(there)]) == 2
    assert "inventory.yaml is there already: name another file with -i, or give --overwrite" in capsys.readouterr().err
    with pytest.raises(UsageError, match="it was written meanwhile"):
        write(there, "ours\n", {}, overwrite=False)
    assert there.read_text() == "mine\n"
    write(there, "ours\n", {}, overwrite=True)
    assert there.read_text() == "ours\n"


def test_files_that_an_inventory_names_are_put_beside_it_for_the_user_alone(tmp_path: Path) -> None:
    there = tmp_path / "inventory.yaml"
    files = {"etcd/ca.crt": b"ca", "etcd/client.key": b"key"}
    write(there, "ours\n", files, overwrite=False)
    assert (tmp_path / "etcd/client.key").read_bytes() == b"key"
    assert (tmp_path / "etcd/client.key").stat().st_mode & 0o777 == 0o600
    there.unlink()
    with pytest.raises(UsageError, match=r"client\.key is there already, and is another"):
        write(there, "ours\n", {**files, "etcd/client.key": b"other"}, overwrite=False)
    assert not there.exists()
    assert (tmp_path / "etcd/client.key").read_bytes() == b"key"
