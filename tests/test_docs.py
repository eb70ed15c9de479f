from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from bootstrap import cli, errors
from bootstrap.values import ProblemId
from tools import checks_docs, commands_docs, errors_docs, inventory_docs, phases_docs

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_inventorys_document_shows_the_models_as_they_are() -> None:
    told = "run python -m tools.inventory_docs"
    assert inventory_docs.DOCUMENT.read_text() == inventory_docs.document(), told


def test_the_list_of_checks_shows_the_checks_as_they_are() -> None:
    assert checks_docs.DOCUMENT.read_text() == checks_docs.document(), "run python -m tools.checks_docs"


def test_the_commands_document_and_the_man_page_show_the_commands_as_they_are() -> None:
    told = "run python -m tools.commands_docs"
    assert commands_docs.DOCUMENT.read_text() == commands_docs.document(), told
    assert commands_docs.MAN_PAGE.read_text() == commands_docs.man_page(), told


def test_the_phases_document_and_the_names_that_shells_complete_are_those_of_the_phases() -> None:
    told = "run python -m tools.phases_docs"
    assert phases_docs.NAMES.read_text() == phases_docs.names(), told
    assert phases_docs.DOCUMENT.read_text() == phases_docs.document(), told


def test_the_pages_of_mistakes_are_those_of_the_catalogue() -> None:
    written = {path.name: path.read_text() for path in errors_docs.FOLDER.iterdir()}
    assert written == errors_docs.pages(), "run python -m tools.errors_docs"


def test_the_tables_of_exit_codes_and_of_preflights_checks_show_what_is_explained() -> None:
    for path, text in errors_docs.tables().items():
        assert path.read_text() == text, "run python -m tools.errors_docs"


def test_the_man_page_is_shown_without_a_warning_and_whole() -> None:
    command = ["groff", "-man", "-Tascii", "-P-cbou", "-rHY=0", "-ww", commands_docs.MAN_PAGE]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert shown.stderr == ""
    words = " ".join(shown.stdout.split())
    for described in commands_docs.described():
        for text in (described.usage, *described.help, *(part for pair in described.parameters for part in pair)):
            assert " ".join(text.split()) in words


def test_every_kind_of_mistake_is_documented() -> None:
    text = (ROOT / "docs" / "inventory.md").read_text()
    assert [problem for problem in get_args(ProblemId) if f"`{problem}`: " not in text] == []


def test_every_exit_code_is_documented() -> None:
    def below(kind: type[errors.BootstrapError]) -> set[int]:
        return {kind.exit_code}.union(*map(below, kind.__subclasses__()))

    codes = below(errors.BootstrapError) | {0, 8, cli.INTERRUPTED, cli.TERMINATED, cli.STDOUT_GONE}
    text = (ROOT / "docs" / "exit-codes.md").read_text()
    assert codes <= {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / link).exists(), link


def test_every_page_is_found_from_the_first_one() -> None:
    first = ROOT / "docs" / "README.md"
    linked = {(first.parent / link).resolve() for link in re.findall(r"\]\(([^)#]+)", first.read_text())}
    pages = {*first.parent.glob("*.md"), *(first.parent / "how-to").glob("*.md")} - {first}
    assert sorted(path.name for path in pages - linked) == []


def test_decisions_are_numbered_without_gaps_and_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    numbers = sorted(int(path.name[:4]) for path in folder.glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_fault_stands_in_the_table_and_every_test_that_it_names_exists() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text()
    assert re.findall(r"^\| F(\d+) \|", text, re.MULTILINE) == [str(number) for number in range(1, 41)]
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE))
    assert [name for name in re.findall(r"`(test_\w+)`", text) if name not in defined] == []
