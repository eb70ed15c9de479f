"""Plan, compare or make a cluster: python examples/cluster.py plan|diff|apply INVENTORY [KUBECONFIG]."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

from bootstrap import BootstrapError, Cluster, HostsFailed, Request
from bootstrap.events import HostFailed, PhaseDone, Result, StepDone
from bootstrap.joining import Joined
from bootstrap.run import Made
from bootstrap.userfiles import write


def workflows(cluster: Cluster) -> Iterator[Literal["init", "join"]]:
    """Give what makes the whole of the cluster, in order."""
    yield "init"
    if any(host.is_worker for host in cluster.inventory.hosts):
        yield "join"


def apply(cluster: Cluster, workflow: Literal["init", "join"], kubeconfig: Path) -> None:
    """Do `workflow`, tell what it changes as it goes, and keep the admin's kubeconfig."""
    request = Request()
    with closing(cluster.apply(workflow, request)) as events:  # closing: Ctrl-C stops the machines, too
        for event in events:
            match event:
                case StepDone(state="changed"):
                    print(f"{event.host}: {event.step}: {event.what}")
                case PhaseDone():
                    print(f"{event.host}: {event.phase} took {event.seconds:.1f} s")
                case HostFailed():
                    print(f"{event.host}: {request.secrets.mask(str(event.error))}", file=sys.stderr)
                case Result(data=Made(kubeconfig=data)) if data:
                    write(kubeconfig, data)  # whole, and readable by its owner alone
                    print(f"export KUBECONFIG={kubeconfig}")
                case Result(data=Joined(hosts=hosts)):
                    print(f"Nodes: {', '.join(hosts)}")


def main(what: str, inventory: str, kubeconfig: str = "kubeconfig") -> int:
    """Do it, and give the exit code."""
    try:
        cluster = Cluster.load(inventory)
        for workflow in workflows(cluster):
            match what:
                case "plan":
                    print(cluster.plan(workflow))
                case "diff":
                    print("\n".join(cluster.diff(workflow).lines()))
                case "apply":
                    apply(cluster, workflow, Path(kubeconfig))
                case _:
                    print(__doc__, file=sys.stderr)
                    return 2
    except BootstrapError as error:
        print(error, file=sys.stderr)
        return error.code if isinstance(error, HostsFailed) else error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
