"""The library: what the commands do, for Python programs (docs/library.md).

A run is a generator of events. It works in a thread of its own, so that whoever takes the events may take his time.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from bootstrap import applying, diff, inventory, joining, outline, run
from bootstrap.applying import Applied
from bootstrap.diff import Differences
from bootstrap.errors import Problem, UsageError
from bootstrap.events import Event, Listener, Result
from bootstrap.gather import Request
from bootstrap.joining import Joined
from bootstrap.outline import Forecast
from bootstrap.parallel import stoppable
from bootstrap.preflight import Workflow
from bootstrap.recap import recapped, warned
from bootstrap.report import Report
from bootstrap.run import Made
from bootstrap.spec import Inventory
from bootstrap.trial import require_fitting


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster that an inventory describes, whether it is there already or not. It holds no connection."""

    inventory: Inventory

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Cluster:
        """Read the inventory at `path`; no machine is asked.

        Raises `InventoryError` with every mistake in it, and `NotSupported` for what cannot be built yet.
        """
        read = inventory.load(Path(path))
        inventory.require_supported(read)
        require_fitting(read)
        return cls(read)

    def plan(self, workflow: Workflow, request: Request | None = None) -> Forecast:
        """Give what `workflow` (`init` or `join`) would do on each host, without a connection to any.

        Raises `UsageError` for phases and hosts that there are not.
        """
        return outline.outline(self.inventory, workflow, request or Request())

    def diff(self, workflow: Workflow | None = None, request: Request | None = None) -> Differences:
        """Look at the machines and the cluster, and give what `apply` would change there. Nothing is changed.

        Raises what the iterator of `apply` raises.
        """
        found = Differences(lambda _: None)
        find = {None: diff.apply, "init": diff.init, "join": diff.join}[workflow]
        find(self.inventory, _of(workflow, request), lambda problem: found(warned(problem)), found)
        return found

    def apply(self, workflow: Workflow | None = None, request: Request | None = None) -> Generator[Event, None, None]:
        """Make the cluster, or what it lacks, or do `workflow` alone, and give the events as they come.

        Work begins with the first event that is asked for, and waits for nobody. That event is `Started`. The last two
        are `Recap`, and where all went well a `Result`: its data is an `Applied`, of init alone a `Made` (with the
        admin's kubeconfig), of join alone a `Joined`.

        `close()`, and any exception that leaves an open iterator behind, ends the run as SIGINT ends the command:
        machines stop after their current step, locks are given up, and another run goes on from there.

        Raises, in place of a next event, `HostsFailed` where hosts failed, after all others are done, or another
        `BootstrapError` where nothing could be begun. Raises `UsageError` at once for a request of some hosts or phases
        without a `workflow`.
        """
        asked = _of(workflow, request)
        workers = tuple(host for host in self.inventory.hosts if host.is_worker)
        part = {None: self.inventory.hosts, "init": self.inventory.formed, "join": workers}[workflow]
        names = [host.name for host in part if not asked.limit or host.name in asked.limit]

        def work(listener: Listener) -> None:
            report = Report(lambda _: None)

            def tell(event: Event) -> None:
                report(event)
                listener(event)

            with recapped(workflow or "apply", self.inventory, names, tell, report):
                result = self._done(workflow, asked, tell)
            tell(Result(result))

        return events(work)

    def _done(self, workflow: Workflow | None, request: Request, listener: Listener) -> Applied | Made | Joined:
        def warn(problem: Problem) -> None:
            listener(warned(problem))

        match workflow:
            case None:
                return applying.apply(self.inventory, request, listener, warn)
            case "init":
                return run.init(self.inventory, request, listener, warn)
            case "join":
                return joining.join(self.inventory, request, listener, warn)


def _of(workflow: Workflow | None, request: Request | None) -> Request:
    """Give what is asked of a run. Raises `UsageError` where it is asked of the wrong one."""
    asked = request or Request()
    if workflow is None and (asked.only or asked.skip or asked.until or asked.limit):
        raise UsageError("hosts and phases are chosen of init or join, which is not named")
    return asked


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None = None


def events(work: Callable[[Listener], None]) -> Generator[Event, None, None]:
    """Do `work` in a thread, and give what it tells its listener; raise what it raises.

    Closing it ends the work (`parallel.Stopped`), and returns when it has ended.
    """
    told: queue.SimpleQueue[Event | _End] = queue.SimpleQueue()
    stop = threading.Event()

    def all_of_it() -> None:
        try:
            with stoppable(stop):
                work(told.put)
        except BaseException as error:  # noqa: BLE001 - it is raised where the events are taken
            told.put(_End(error))
        else:
            told.put(_End())

    worker = threading.Thread(target=all_of_it, name="kubestrap", daemon=True)
    worker.start()
    try:
        while True:
            try:
                event = told.get(timeout=1)  # a signal is seen between waits
            except queue.Empty:
                continue
            if not isinstance(event, _End):
                yield event
            elif event.error is None:
                return
            else:
                raise event.error
    finally:
        stop.set()
        worker.join()  # all that it may be at has a limit
