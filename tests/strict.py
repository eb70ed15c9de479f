"""A pytest plug-in (`-p tests.strict`): a test that did not run is a failure.

Skipped, xfailed and deselected tests fail the run, and so does a test function in the folders given to pytest that
was not collected: misnamed, shadowed by another of its name, or in a file that could not be found.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest


class Strict:
    """Collects what did not run."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.problems.append(f"{report.nodeid}: skipped while collecting")

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self.problems += [f"{item.nodeid}: deselected" for item in items]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, "wasxfail"):
            self.problems.append(f"{report.nodeid}: xfail")
        elif report.skipped:
            self.problems.append(f"{report.nodeid}: skipped")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        collected = {(item.path, item.nodeid.split("::", 1)[1].partition("[")[0]) for item in session.items}
        ignored = [Path(path).resolve() for path in session.config.getoption("ignore") or ()]
        for argument in session.config.args:
            for file in _files(Path(argument).resolve(), ignored):
                self.problems += [
                    f"{file}::{name}: not collected" for name in test_functions(file) if (file, name) not in collected
                ]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not session.testscollected:
            self.problems.append("no tests at all were collected")
        if self.problems:
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for problem in self.problems:
            terminalreporter.write_line(f"NOT RUN {problem}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Strict(), "strict")


def test_functions(file: Path) -> Iterator[str]:
    """List the tests that `file` seems to define, as pytest names them; one defined twice is listed as `NAME (2)`."""
    seen: dict[str, int] = {}
    tree = ast.parse(file.read_bytes())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test")]
    for prefix, body in [("", tree.body), *((f"{node.name}::", node.body) for node in classes)]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
                name = f"{prefix}{node.name}"
                seen[name] = seen.get(name, 0) + 1
                yield name if seen[name] == 1 else f"{name} ({seen[name]})"


def _files(top: Path, ignored: Sequence[Path]) -> Iterator[Path]:
    files = sorted(top.rglob("*.py")) if top.is_dir() else [top]
    for file in files:
        if not any(file.is_relative_to(folder) for folder in ignored) and file.resolve() != Path(__file__).resolve():
            yield file
