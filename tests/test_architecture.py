"""Which module may import which, and what a phase may not do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for folder in ("bootstrap", "phases")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "bootstrap/phases" not in str(path) and "bootstrap/templates" not in str(path)
}
PHASES = {name: path for name, path in SOURCES.items() if name.partition(".")[0] == "phases"}
EVERYTHING = [*SOURCES.values(), *sorted((ROOT / "tests").rglob("*.py"))]

ARROWS = {
    # module: what of the project it may not import. Arrows point from the command line down to the transport.
    "bootstrap.errors": ["bootstrap"],
    "bootstrap.events": ["bootstrap"],
    "bootstrap.redaction": ["bootstrap"],
    "bootstrap.paths": ["bootstrap"],
    "bootstrap.steps": ["bootstrap"],
    "bootstrap.values": ["bootstrap"],
    "bootstrap.spec": ["bootstrap.inventory", "bootstrap.site", "bootstrap.plan", "bootstrap.transport"],
    "bootstrap.site": ["bootstrap.inventory", "bootstrap.plan", "bootstrap.steps", "bootstrap.transport"],
    "bootstrap.plan": ["bootstrap.phases", "bootstrap.execute", "bootstrap.transport", "bootstrap.inventory"],
    "bootstrap.execute": ["bootstrap.phases", "bootstrap.inventory", "bootstrap.pki", "bootstrap.cli"],
    "bootstrap.batch": ["bootstrap.phases", "bootstrap.inventory", "bootstrap.pki", "bootstrap.cli"],
    "bootstrap.pki": ["bootstrap.phases", "bootstrap.execute", "bootstrap.transport", "bootstrap.cli"],
    "bootstrap.inventory": ["bootstrap.phases", "bootstrap.execute", "bootstrap.transport", "bootstrap.cli"],
    "bootstrap.transport": [
        "bootstrap.phases",
        "bootstrap.execute",
        "bootstrap.plan",
        "bootstrap.steps",
        "bootstrap.cli",
    ],
    "phases": [
        "bootstrap.execute",
        "bootstrap.batch",
        "bootstrap.transport",
        "bootstrap.inventory",
        "bootstrap.pki",
        "bootstrap.api",
        "bootstrap.cluster",
        "bootstrap.survey",
        "bootstrap.run",
        "bootstrap.cli",
        "bootstrap.bundle",
    ],
}
ALLOWED = {"bootstrap.values": {"bootstrap.errors"}, "bootstrap.transport": set[str]()}
IMPURE = {
    "asyncio",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "paramiko",
    "pathlib",
    "random",
    "secrets",
    "selectors",
    "shutil",
    "socket",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "urllib.request",
    "http",
    "uuid",
}
SLOW = {"cryptography", "jinja2", "paramiko", "pydantic", "pytest", "rich", "testinfra", "yaml"}


def imports(path: Path) -> Iterator[str]:
    """List the names of modules that `path` imports anywhere, also what is imported from a package."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("module", ARROWS)
def test_imports_point_one_way(module: str) -> None:
    for name, path in SOURCES.items():
        if within(name, module):
            wrong = [
                found
                for found in imports(path)
                if any(within(found, banned) for banned in ARROWS[module])
                and not within(found, module)
                and not any(within(found, fine) for fine in ALLOWED.get(module, ()))
            ]
            assert not wrong, f"{name} imports {wrong}"


def test_phases_and_templates_are_imported_under_bootstrap_alone() -> None:
    for path in EVERYTHING:
        wrong = [name for name in imports(path) if within(name, "phases") or within(name, "templates")]
        assert not wrong, f"{path} imports {wrong}"


@pytest.mark.parametrize("name", PHASES)
def test_a_phase_imports_nothing_that_does_io(name: str) -> None:
    wrong = [found for found in imports(PHASES[name]) if any(within(found, banned) for banned in IMPURE)]
    assert not wrong, f"{name} imports {wrong}"


@pytest.mark.parametrize("name", PHASES)
def test_a_phase_reads_no_clock_and_opens_no_file(name: str) -> None:
    for node in ast.walk(ast.parse(PHASES[name].read_bytes())):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        assert called not in {"open", "print", "input"}, f"{name}:{node.lineno}"  # type: ignore[attr-defined]
        assert not called.endswith((".now", ".utcnow", ".today")), f"{name}:{node.lineno}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", SOURCES)
def test_no_module_keeps_state(name: str) -> None:
    """Module-level names are constants: written in capitals where they hold a container, and never assigned again."""
    for node in ast.walk(ast.parse(SOURCES[name].read_bytes())):
        assert not isinstance(node, ast.Global), f"{name}:{node.lineno} changes a module's name"
    for statement in ast.parse(SOURCES[name].read_bytes()).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(
            statement.value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
        ):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            text = ast.unparse(target)
            assert text.isupper() or text == "__all__", (
                f"{name}:{statement.lineno}: {text} is a container, not a constant"
            )


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_asks_whether_it_is_a_dry_run(name: str) -> None:
    for node in ast.walk(ast.parse(SOURCES[name].read_bytes())):
        if isinstance(node, ast.If | ast.IfExp):
            assert "dry_run" not in ast.unparse(node.test), f"{name}:{node.lineno}"


@pytest.mark.parametrize("name", [name for name in SOURCES if name.endswith("_commands") or name == "bootstrap.cli"])
def test_commands_import_slow_packages_only_where_they_are_used(name: str) -> None:
    tree = ast.parse(SOURCES[name].read_bytes())
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found = [node.module or ""] if isinstance(node, ast.ImportFrom) else [part.name for part in node.names]
            assert not {part.partition(".")[0] for part in found} & SLOW, f"{name}:{node.lineno}"


@pytest.mark.parametrize("name", [name for name in SOURCES if name.endswith("_commands")])
def test_commands_tell_everything_through_their_output(name: str) -> None:
    """So that `--output json` has all of it: `output: OutputOption`, and its `note`, `result`, `run` and `warn`."""
    for node in ast.walk(ast.parse(SOURCES[name].read_bytes())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "report.tell", "typer.echo", "typer.secho"}, f"{name}:{node.lineno}"
        if isinstance(node, ast.FunctionDef) and any("app.command" in ast.unparse(by) for by in node.decorator_list):
            takes = {argument.arg: argument.annotation for argument in (*node.args.args, *node.args.kwonlyargs)}
            if (name, node.name) != ("bootstrap.lab_commands", "ssh"):  # the machine's own output is all of its
                assert ast.unparse(takes["output"]) == "OutputOption", f"{name}:{node.lineno}"  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SOURCES)
def test_tests_and_labs_are_not_known_to_the_product(name: str) -> None:
    assert not [found for found in imports(SOURCES[name]) if within(found, "tests")]
    if not within(name, "bootstrap.lab") and name != "bootstrap.lab_commands":
        assert not [found for found in imports(SOURCES[name]) if within(found, "bootstrap.lab")], name
