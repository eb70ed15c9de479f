"""`diff`: what `init` or `join` would change now, found by looking at the machines and the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bootstrap import applying, joining, run
from bootstrap.errors import Problem
from bootstrap.events import Depends, Drift, Event, Listener
from bootstrap.gather import Request
from bootstrap.joining import Invitation
from bootstrap.spec import Inventory

DRIFT = 11
"""The exit code of `--detailed-exitcode` where something is not as it should be."""


@dataclass(slots=True)
class Differences:
    """A `Listener` that keeps what a look finds, and passes it on."""

    tell: Listener
    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self.events.append(event)
        self.tell(event)

    @property
    def drift(self) -> bool:
        """Whether anything is not as it should be."""
        return any(isinstance(event, Drift | Depends) for event in self.events)

    @property
    def data(self) -> dict[str, object]:
        """The command's result for programs: whether anything is not right, and the steps by host and phase."""
        kept = [event for event in self.events if isinstance(event, Drift | Depends)]
        return {"drift": self.drift, "steps": kept}

    def lines(self) -> Iterator[str]:
        """Tell it for people: by host and phase each step that is not right, with its difference."""
        place = ("", "")
        changes = 0
        for event in self.events:
            if not isinstance(event, Drift | Depends):
                continue
            if (event.host, event.phase) != place:
                place = (event.host, event.phase)
                yield f"{event.host}  {event.phase}"
            changes += 1
            if isinstance(event, Depends):
                what = event.what or "to be seen"
                yield f"  {event.step}: {what} (after {event.on_phase}: {event.on})"
                continue
            yield f"  {event.step}: {event.what or 'to be waited for'}"
            yield from (f"    {line}" for line in event.difference.splitlines())
        yield f"{changes} step{'s' * (changes != 1)} would change something or wait." if changes else "No differences."


def init(inventory: Inventory, request: Request, warn: Callable[[Problem], None], found: Differences) -> None:
    """Find what `init` would change. Raises what `init` raises before it begins."""
    run.init(inventory, request, found, warn, run.LOOKING)


def apply(inventory: Inventory, request: Request, warn: Callable[[Problem], None], found: Differences) -> None:
    """Find what `apply` would change. Raises what `apply` raises before it begins."""
    applying.apply(inventory, request, found, warn, joining.LOOKING)


def join(
    inventory: Inventory,
    request: Request,
    warn: Callable[[Problem], None],
    found: Differences,
    invitation: Invitation | None = None,
) -> None:
    """Find what `join` would change, of the cluster of `invitation` where one is given."""
    if invitation:
        joining.join_invited(inventory, invitation, request, found, warn, joining.LOOKING)
    else:
        joining.join(inventory, request, found, warn, joining.LOOKING)
