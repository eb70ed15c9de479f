"""Snapshots arrive whole or not at all, and are checked by their own hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bootstrap.errors import EtcdRefused, SnapshotRefused, UsageError
from bootstrap.etcd import snapshots
from bootstrap.transport.base import Result
from tests.etcd.members import DATABASE, SNAPSHOT, Etcd, said, streamed

WHOLE = streamed(SNAPSHOT, total=len(DATABASE))


def save(path: Path, result: Result, *, replace: bool = False) -> snapshots.Snapshot:
    etcd = Etcd(("cp1",), on=lambda *_: result)
    return snapshots.save(etcd.hosts["cp1"], path, replace=replace)


def test_a_snapshot_arrives_as_it_was_sent_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    saved = save(path, WHOLE)
    assert path.read_bytes() == SNAPSHOT
    assert path.stat().st_mode & 0o777 == 0o600
    assert saved == snapshots.check(path)
    assert (saved.size, saved.database) == (len(SNAPSHOT), len(DATABASE))
    assert saved.sha256 == hashlib.sha256(DATABASE).hexdigest()


def test_a_file_that_is_there_stays_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"old")
    with pytest.raises(UsageError, match="--force"):
        save(path, WHOLE)
    assert path.read_bytes() == b"old"
    save(path, WHOLE, replace=True)
    assert path.read_bytes() == SNAPSHOT


@pytest.mark.parametrize("name", ["", "none/a.db"])
def test_a_place_where_no_file_can_be_is_refused_before_anybody_is_asked(tmp_path: Path, name: str) -> None:
    etcd = Etcd(("cp1",))
    with pytest.raises(UsageError):
        snapshots.save(etcd.hosts["cp1"], tmp_path / name, replace=False)
    assert etcd.asked == []


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (streamed(SNAPSHOT[:-32], total=len(DATABASE)), "cut short: 8192 of 8224 bytes"),
        (streamed(SNAPSHOT[:5000], total=len(DATABASE)), "cut short: 5000 of 8224 bytes"),
        (said(), "cut short: 0 of 32 bytes"),
        (streamed(b"x" + SNAPSHOT[1:], total=len(DATABASE)), "do not have the SHA-256"),
        (
            said({"result": {"blob": "AAAA"}}, {"error": {"message": "no leader"}}),
            "stopped sending the snapshot: no leader",
        ),
        (said({"result": {"blob": "A"}}), "none of etcd's"),
        (Result(0, b"<html>", b""), "none of etcd's"),
    ],
)
def test_a_stream_that_is_not_whole_leaves_nothing(tmp_path: Path, result: Result, told: str) -> None:
    (tmp_path / "a.db").write_bytes(b"old")
    with pytest.raises(EtcdRefused, match="cp1") as caught:
        save(tmp_path / "a.db", result, replace=True)
    assert told in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]
    assert (tmp_path / "a.db").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (SNAPSHOT[:-1], "cut short"),
        (SNAPSHOT[:-512], "damaged"),
        (DATABASE, "it has no hash at its end"),
        (SNAPSHOT[:100] + b"x" + SNAPSHOT[101:], "damaged"),
        (SNAPSHOT + b"x", "something was added"),
        (b"", "no database of etcd"),
        (b"x" * len(SNAPSHOT), "no database of etcd"),
    ],
)
def test_a_file_that_is_no_whole_snapshot_is_refused_with_its_fault(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(data)
    with pytest.raises(SnapshotRefused, match=r"a\.db") as caught:
        snapshots.check(path)
    assert told in str(caught.value)
