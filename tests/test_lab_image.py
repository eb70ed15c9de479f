from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap.errors import LabError
from bootstrap.lab import image

KEYS = "/usr/share/keyrings/debian.gpg"


def test_sources_come_from_stanzas(tmp_path: Path) -> None:
    apt(
        tmp_path,
        "debian.sources",
        f"""\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: {KEYS}

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://vendor.example/tools
Suites: stable
Components: main
""",
    )
    assert image.sources(tmp_path, "bookworm") == [
        f"deb [signed-by={KEYS}] http://mirror.example/debian bookworm main",
        f"deb [signed-by={KEYS}] http://mirror.example/debian bookworm-updates main",
        "deb http://mirror.example/debian-security bookworm-security main",
    ]


def test_sources_come_from_lines(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(
        "# deb http://old.example/debian bookworm main\n"
        f"deb [arch=amd64 signed-by={KEYS}] http://mirror.example/debian bookworm main non-free\n"
        "deb-src http://mirror.example/debian bookworm main\n"
        "deb http://mirror.example/debian bookworm-updates contrib\n"
    )
    assert image.sources(tmp_path, "bookworm") == [f"deb [signed-by={KEYS}] http://mirror.example/debian bookworm main"]


def test_the_mirror_of_another_debian_release_serves_the_lab_s(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://mirror.example/debian trixie main\n")
    assert image.sources(tmp_path, "trixie") == [f"deb http://mirror.example/debian {image.RELEASE} main"]


def test_a_disabled_stanza_is_no_source(tmp_path: Path) -> None:
    stanza = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n"
    apt(tmp_path, "debian.sources", stanza)
    with pytest.raises(LabError, match="needs a Debian mirror"):
        image.sources(tmp_path, "bookworm")


def test_a_host_that_is_no_debian_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://mirror.example/ubuntu noble main\n")
    with pytest.raises(LabError, match="use a Debian host"):
        image.sources(tmp_path, "bookworm")


def test_the_code_name_is_read_with_and_without_quotes() -> None:
    assert image.codename('NAME="Debian"\nVERSION_CODENAME=bookworm\n') == "bookworm"
    assert image.codename('VERSION_CODENAME="trixie"\n') == "trixie"
    assert image.codename("ID=arch\n") == ""


def apt(etc: Path, name: str, text: str) -> None:
    (etc / "sources.list.d").mkdir()
    (etc / "sources.list.d" / name).write_text(text)
