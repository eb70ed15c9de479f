"""Doing the steps of the third kind: who etcd counts as a member, and who of them has a vote.

Asked of a member that serves, on another machine than the one that joins. etcd's API does not tell whether it did
something or found it done, so its list is read before each call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from bootstrap.errors import EtcdRefused, EtcdUnreachable, HostError, WaitTimedOut, words
from bootstrap.etcd import asking
from bootstrap.etcd.members import Member, identity
from bootstrap.steps import EtcdStep, Learner, Voter
from bootstrap.transport.base import Host

ADD_SECONDS = 60.0
"""How long etcd may refuse a new member: it does for 5 s after any other one connected, and while one is down."""
_PAUSE = 0.5
_LIST_SECONDS = 10.0
_UNTIL_LATER = ("BadRequest", "ServiceUnavailable", "Timeout")

OnWait = Callable[[str, float, float], None]
"""Called now and then while a wait goes on, with what is waited for, and the seconds gone by and allowed."""


def enrolled(host: Host) -> tuple[Member, ...]:
    """Give the members as a majority knows them, asked of the one on `host`. Raises as `asking.call` does."""
    return asking.enrolled(host, seconds=_LIST_SECONDS)


def do(step: EtcdStep, host: Host, *, on_wait: OnWait) -> str | None:
    """Make true what `step` says, through the member on `host`; tell how (`added`, `promoted`), None if it was.

    Raises `WaitTimedOut` where etcd does not take it within the limit, and what `asking.call` raises.
    """
    match step:
        case Learner():
            return _add(step, host, on_wait)
        case Voter():
            return _promote(step, host, on_wait)


def preview(step: EtcdStep, host: Host) -> str | None:
    """Tell how `do` would make `step` true; None where it is. Nothing is changed."""
    found = _find(enrolled(host), step)
    match step:
        case Learner(lost=lost):
            return None if found and found.id != lost else "added"
        case Voter():
            return None if found and not found.learner else "promoted"


def withdraw(step: Learner, host: Host) -> bool:
    """Take the member of `step` out again where it has no vote; say whether etcd counts it no more."""
    found = _find(enrolled(host), step)
    if found is None:
        return True
    if not found.learner:
        return False
    _remove(host, found.id)
    return True


def _add(step: Learner, host: Host, on_wait: OnWait) -> str | None:
    known = enrolled(host)
    if step.lost and any(member.id == step.lost for member in known):
        what = f"etcd to let go of the former member {identity(step.lost)}"
        _insist(step, what, lambda: _remove(host, step.lost), on_wait)
        known = tuple(member for member in known if member.id != step.lost)
    if _find(known, step):
        return None
    if any(member.name == step.name for member in known):
        raise HostError(step.name, "etcd has a member of this name at another address: remove that one first")
    _insist(step, f"etcd to take {step.name} as a learner", lambda: _enrol(host, step.peer), on_wait)
    return "added"


def _promote(step: Voter, host: Host, on_wait: OnWait) -> str | None:
    began, how = time.monotonic(), None
    while True:
        try:
            found = _find(enrolled(host), step)
            if found is None:
                raise HostError(step.name, f"etcd does not count it as a member any more ({step.peer})")
            if not found.learner:
                return how
            how = "promoted"
            asking.call(host, "/v3/cluster/member/promote", {"ID": str(found.id)})
        except (EtcdRefused, EtcdUnreachable) as error:
            _pause(step.name, f"{step.name} to have all data of etcd", began, step.seconds, error, on_wait)


def _insist(step: Learner, what: str, call: Callable[[], None], on_wait: OnWait) -> None:
    began = time.monotonic()
    while True:
        try:
            return call()
        except EtcdRefused as error:
            if error.reason not in _UNTIL_LATER:
                raise
            _pause(step.name, what, began, ADD_SECONDS, error, on_wait)


def _enrol(host: Host, peer: str) -> None:
    asking.call(host, "/v3/cluster/member/add", {"peerURLs": [peer], "isLearner": True})


def _remove(host: Host, member: int) -> None:
    asking.call(host, "/v3/cluster/member/remove", {"ID": str(member)})


def _find(known: Sequence[Member], step: EtcdStep) -> Member | None:
    return next((member for member in known if step.peer in member.peers), None)


def _pause(name: str, what: str, began: float, limit: float, error: HostError, on_wait: OnWait) -> None:
    elapsed = time.monotonic() - began
    if elapsed >= limit:
        raise WaitTimedOut(name, f"waited {limit:g} s for {what}, in vain: {words(error)}") from error
    on_wait(what, elapsed, limit)
    time.sleep(_PAUSE)
