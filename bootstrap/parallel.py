"""The same on many machines at once: what came of it by host, and what went wrong by host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event
from typing import TypeVar

from bootstrap.errors import BootstrapError, HostsFailed

CONCURRENCY = 32
"""Machines worked on at the same time."""

Value = TypeVar("Value")
_STOP: ContextVar[Event | None] = ContextVar("stop", default=None)


class Stopped(BaseException):
    """Who began the work does not want it any more. It ends as by a signal."""


@contextmanager
def stoppable(stop: Event) -> Iterator[None]:
    """Have what this thread does here end by `Stopped`, at its next wait for other threads, once `stop` is set."""
    token = _STOP.set(stop)
    try:
        yield
    finally:
        _STOP.reset(token)


@contextmanager
def pool(machines: int) -> Iterator[ThreadPoolExecutor]:
    """Have threads for so many machines. Their work is waited for at the end, but not where an error or a signal comes.

    Those threads end when the connections that they use are closed.
    """
    workers = ThreadPoolExecutor(max(1, min(CONCURRENCY, machines)))
    try:
        yield workers
    except BaseException:
        workers.shutdown(wait=False, cancel_futures=True)
        raise
    workers.shutdown()


def settle(future: Future[Value]) -> None:
    """Wait until some work is done. Raises `Stopped` where it is not, and what this thread does is to stop.

    Python acts on a signal between two of its instructions; one that comes just before a wait is seen after it. So
    this wait is many short ones.
    """
    stop = _STOP.get()
    while not future.done():
        if stop and stop.is_set():
            raise Stopped
        wait_for([future], timeout=1)


def attempt(names: Sequence[str], work: Callable[[str], Value]) -> tuple[dict[str, Value], dict[str, BootstrapError]]:
    """Do `work` for every name, and give what it returned and the foreseeable errors it raised, in order."""
    if not names:
        return {}, {}
    done: dict[str, Value] = {}
    failures: dict[str, BootstrapError] = {}
    with pool(len(names)) as workers:
        pending = {name: workers.submit(work, name) for name in names}
        for name, future in pending.items():
            settle(future)
            error = future.exception()
            if error is None:
                done[name] = future.result()
            elif isinstance(error, BootstrapError):
                failures[name] = error
            else:
                raise error
    return done, failures


def raise_failures(failures: Mapping[str, BootstrapError], succeeded: Mapping[str, object]) -> None:
    """Raise `HostsFailed` where there are failures."""
    if failures:
        raise HostsFailed(failures, list(succeeded))
