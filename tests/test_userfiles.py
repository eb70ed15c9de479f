"""Files that arrive beside their place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap import userfiles

KILLED = """
import os, sys
from pathlib import Path
from bootstrap import userfiles
with userfiles.arriving(Path(sys.argv[1]), replace=False) as (file, _):
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), 9)
"""


def test_a_file_is_private_and_elsewhere_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    old = os.umask(0)
    try:
        with userfiles.arriving(path, replace=False) as (file, partial):
            assert partial.stat().st_mode & 0o777 == 0o600
            assert not path.exists()
            file.write(b"all")
    finally:
        os.umask(old)
    assert path.read_bytes() == b"all"
    assert list(tmp_path.iterdir()) == [path]


def test_what_came_to_be_there_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def arrive() -> None:
        with userfiles.arriving(path, replace=False) as (file, _):
            file.write(b"new")
            path.write_bytes(b"theirs")

    with pytest.raises(FileExistsError):
        arrive()
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=60)
    (left,) = tmp_path.iterdir()
    assert left.read_bytes() == b"half"
    with userfiles.arriving(path, replace=True) as (_, first):
        assert not left.exists()
        with userfiles.arriving(path, replace=True):
            assert first.exists()


def test_after_an_error_nothing_is_left(tmp_path: Path) -> None:
    def fail() -> None:
        with userfiles.arriving(tmp_path / "a", replace=False):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
