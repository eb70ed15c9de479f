"""What happens in a command, as typed values. Everything a user sees is made from this one stream.

`bootstrap.jsonlines` writes them for programs, by their fields and docstrings (docs/events.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

VERSION = 1
"""The version of the events' form. Fields and kinds may be added to it; one that is taken away makes a new version."""

State = Literal["same", "changed"]
Outcome = Literal["ok", "changed", "failed", "unreachable", "unfinished", "not-begun"]


@dataclass(frozen=True, slots=True)
class Started:
    """A run on machines begins: the command, the cluster's name, and the hosts it is about.

    `log` is the path of the run's log file, empty where none can be written.
    """

    command: str
    cluster: str
    hosts: tuple[str, ...]
    kubestrap: str  # the version of kubestrap
    log: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth telling people, in a line of text."""

    text: str


@dataclass(frozen=True, slots=True)
class Warned:
    """The check `check` of preflight found something that the run goes on in spite of. `host` may be empty.

    `level` is `unchecked` for what could not be looked at.
    """

    host: str
    check: str
    what: str
    fix: str
    level: Literal["warning", "unchecked"] = "warning"


@dataclass(frozen=True, slots=True)
class PhaseStarted:
    """A host begins a phase."""

    host: str
    phase: str


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step found everything right (`same`), or made it so (`changed`; `what` says how: `created`, `restarted`).

    Of a hook nobody knows what it changed: it is `same`, and `what` is `ran`.
    """

    host: str
    phase: str
    step: str
    state: State
    what: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A wait goes on: `what` completes "waiting for ..."; `elapsed`, `limit` and what is `left` of it in seconds."""

    host: str
    phase: str
    what: str
    elapsed: float
    limit: float
    left: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "left", max(0.0, self.limit - self.elapsed))


@dataclass(frozen=True, slots=True)
class Sending:
    """Blobs go to a machine: so many bytes of so many are sent."""

    host: str
    phase: str
    sent: int
    total: int


@dataclass(frozen=True, slots=True)
class PhaseDone:
    """A host is done with a phase, after `seconds`; so many of its steps changed something."""

    host: str
    phase: str
    seconds: float
    changed: int
    steps: int


@dataclass(frozen=True, slots=True)
class HostFailed:
    """A host failed and does nothing more in this run. `phase` is empty where it was not in one."""

    host: str
    phase: str
    error: Exception


@dataclass(frozen=True, slots=True)
class Drift:
    """A step is not as it should be, and nothing was done about it.

    `what` says how a run would change it, as in `StepDone`; it is empty for a wait whose end has not come. `difference`
    is the unified diff, or whatever else can be told of it, without any secret.
    """

    host: str
    phase: str
    step: str
    what: str
    difference: str = ""


@dataclass(frozen=True, slots=True)
class Depends:
    """What comes of a step depends on step `on` of phase `on_phase`, which is not done.

    `what` says how a run would change it if that changes nothing for it; empty where it would not.
    """

    host: str
    phase: str
    step: str
    on_phase: str
    on: str
    what: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """A check of `verify` was made on a host. Without problems it passed."""

    host: str
    check: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostState:
    """What became of one host in a run; `changed` and `same` count steps, `seconds` were spent in phases."""

    host: str
    state: Outcome
    changed: int = 0
    same: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Recap:
    """A run on machines is over, after `seconds`: what became of each of its hosts."""

    hosts: tuple[HostState, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """What the command gives: its data. Each command has its own, described with it."""

    data: object


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed. `kind` is the class of the error, `exitCode` the one that it alone would lead to.

    What does not apply is empty: `host`, `phase`, `step`, the `check` of preflight or verify or the kind of mistake
    in a file, the `place` in that file, and how to `fix` it.
    """

    kind: str
    what: str
    exit_code: int = 1
    host: str = ""
    phase: str = ""
    step: str = ""
    check: str = ""
    place: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The command is over, and this is the last line: its exit code, and every reason where that is not 0."""

    exit_code: int
    seconds: float
    errors: tuple[Failure, ...] = ()


Event = (
    Started
    | Note
    | Warned
    | PhaseStarted
    | StepDone
    | Waiting
    | Sending
    | PhaseDone
    | HostFailed
    | Drift
    | Depends
    | Checked
    | Recap
    | Result
    | Ended
)
Listener = Callable[[Event], None]
"""Called with each event, from the host's thread, one call at a time."""
