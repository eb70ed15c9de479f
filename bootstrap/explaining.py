"""What `kubestrap explain` says of a name: a mistake in an inventory, a check, an exit code or the kind of an error.

The texts of exit codes and of preflight's checks stand in explanations.yaml, from which their documents are made, too.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from bootstrap import errors, mistakes, verify
from bootstrap.bundle import download, gomodules, reader, source  # noqa: F401 - for their kinds of errors
from bootstrap.importing import draft  # noqa: F401 - the same

EXPLANATIONS = "explanations.yaml"


@dataclass(frozen=True, slots=True)
class ExitCode:
    """An exit code: what it means, and what to do; both Markdown with links as from docs."""

    code: int
    means: str
    fix: str


@dataclass(frozen=True, slots=True)
class PreflightCheck:
    """A check of preflight, or some that go together: what must be true, and whether it is an error `otherwise`.

    A name with a part in angle brackets, such as `Port-<number>`, stands for all that begin as it does.
    """

    names: tuple[str, ...]
    must: str
    otherwise: str


@dataclass(frozen=True, slots=True)
class Explained:
    """All that is known of a name: its `group`, one line, the whole text for a terminal, and `data` for programs."""

    id: str
    group: str
    line: str
    text: str
    data: Mapping[str, object]


def exit_codes() -> list[ExitCode]:
    """List the exit codes, the smallest first."""
    return [ExitCode(int(code), **told) for code, told in mistakes.packaged(EXPLANATIONS)["exitCodes"].items()]


def preflight_checks() -> list[PreflightCheck]:
    """List the checks of preflight, in the order of their document."""
    return [PreflightCheck(tuple(told.pop("names")), **told) for told in mistakes.packaged(EXPLANATIONS)["preflight"]]


def everything() -> list[Explained]:
    """Explain every name that there is, group by group."""
    return [*_mistakes(), *_preflight(), *_verify(), *_exit_codes(), *_errors()]


def find(name: str, known: Sequence[Explained]) -> Explained | None:
    """Give what `name` is, written with or without brackets; None where it is nothing.

    Case counts only between names that differ in nothing else: preflight has `Swap`, verify has `swap`.
    """
    wanted = name.strip("[]")
    exact = [one for one in known if one.id == wanted]
    alike = [one for one in known if one.id.lower() == wanted.lower()]
    families = [one for one in known if "<" in one.id and wanted.lower().startswith(one.id.partition("<")[0].lower())]
    return next(iter(exact + alike + families), None)


def kinds() -> list[type[errors.BootstrapError]]:
    """List the kinds of errors that events name, in the order of their names."""

    def below(kind: type[errors.BootstrapError]) -> set[type[errors.BootstrapError]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    named = (kind for kind in below(errors.BootstrapError) if not kind.__name__.startswith("_"))
    return sorted(named, key=lambda kind: (kind.__name__, kind.__module__))


def _mistakes() -> Iterator[Explained]:
    for mistake in mistakes.catalogue().values():
        yield Explained(mistake.id, "mistake", mistake.means, mistakes.text(mistake), dataclasses.asdict(mistake))


def _preflight() -> Iterator[Explained]:
    for check in preflight_checks():
        line = f"{_plain(check.must)} (otherwise: {check.otherwise})"
        for name in check.names:
            data = {"id": name, "must": _plain(check.must), "otherwise": check.otherwise}
            yield Explained(name, "preflight", line, _text(name, f"A check of preflight; what must be: {line}."), data)


def _verify() -> Iterator[Explained]:
    for name, on, says in verify.describe():
        text = _text(name, f"A check of verify, made on {on}; what is true where it passes: {says}.")
        yield Explained(name, "verify", says, text, {"id": name, "on": on, "text": says})


def _exit_codes() -> Iterator[Explained]:
    for told in exit_codes():
        means, fix = _plain(told.means), _plain(told.fix)
        parts = [f"An exit code: {means}.", *([f"What to do: {fix}."] if fix else [])]
        data = {"id": str(told.code), "means": means, "fix": fix}
        yield Explained(str(told.code), "exitCode", means, _text(str(told.code), *parts), data)


def _errors() -> Iterator[Explained]:
    for name, alike in groupby(kinds(), lambda kind: kind.__name__):
        told = list(alike)
        means = " Or: ".join(re.split(r"(?<=\.)\s", (kind.__doc__ or "").strip())[0] for kind in told)
        codes = sorted({kind.exit_code for kind in told} - {errors.BootstrapError.exit_code})
        code = [f"Its exit code is {' or '.join(map(str, codes))}."] if codes else []
        data = {"id": name, "means": means}
        yield Explained(name, "error", means, _text(name, f"A kind of error: {means}", *code), data)


def _text(name: str, *paragraphs: str) -> str:
    return "\n\n".join([name, *map(mistakes.wrapped, paragraphs)])


def _plain(text: str) -> str:
    """Write Markdown for a terminal: links as the names of documents."""
    return re.sub(r"\[([^]]*)\]\(([^)#]*)[^)]*\)", r"\1 (docs/\2)", text)
