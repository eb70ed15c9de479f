"""What every run tells of itself: that it begins, what it warns of, and what became of its hosts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import bootstrap
from bootstrap.errors import HostsFailed, Problem, Unreachable
from bootstrap.events import HostState, Listener, Outcome, Recap, Started, Warned
from bootstrap.report import Report
from bootstrap.spec import Inventory


@contextmanager
def recapped(
    command: str, inventory: Inventory, hosts: Sequence[str], listener: Listener, report: Report, *, log: str = ""
) -> Iterator[None]:
    """Tell `listener` that `command` begins on `hosts`, and at its end, also where it fails, what became of each.

    `report` is what has heard all events of the run by then; `log` is the path of its log file.
    """
    began = time.monotonic()
    ended_by: BaseException | None = None
    try:
        listener(Started(command, inventory.cluster.name, tuple(hosts), bootstrap.__version__, log))
        yield
    except BaseException as error:
        ended_by = error
        raise
    finally:
        listener(Recap(tuple(_states(report, hosts, ended_by)), time.monotonic() - began))


def warned(problem: Problem) -> Warned:
    """Give the event for what preflight found and the run goes on in spite of."""
    level: Literal["warning", "unchecked"] = "unchecked" if problem.level == "unchecked" else "warning"
    return Warned(problem.host, problem.check, problem.what, problem.fix, level)


def _states(report: Report, hosts: Sequence[str], error: BaseException | None) -> Iterator[HostState]:
    failed: Mapping[str, BaseException] = error.failures if isinstance(error, HostsFailed) else {}
    for host in dict.fromkeys([*hosts, *report.tallies, *failed]):
        tally = report.tallies.get(host)
        why = failed.get(host) or (tally.error if tally else None)
        state: Outcome
        if why is not None:
            state = "unreachable" if isinstance(why, Unreachable) else "failed"
        elif not report.checked.get(host, True):
            state = "failed"
        elif tally is None and host not in report.checked:
            state = "not-begun"
        elif error is not None and not isinstance(error, HostsFailed):
            state = "unfinished"
        else:
            state = "changed" if tally and tally.changed else "ok"
        counted = (tally.changed, tally.same, tally.seconds) if tally else (0, 0, 0.0)
        yield HostState(host, state, *counted)
