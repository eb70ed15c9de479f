"""Plan, compare or make a cluster: python examples/cluster.py plan|diff|apply INVENTORY [KUBECONFIG]."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from bootstrap import BootstrapError, Cluster, HostsFailed, Request
from bootstrap.applying import Applied
from bootstrap.events import HostFailed, PhaseDone, Result, StepDone
from bootstrap.userfiles import write


def apply(cluster: Cluster, kubeconfig: Path) -> None:
    """Make the cluster, tell what is changed as it goes, and keep the admin's kubeconfig."""
    request = Request()
    with closing(cluster.apply(request=request)) as events:  # closing: Ctrl-C stops the machines, too
        for event in events:
            match event:
                case StepDone(state="changed"):
                    print(f"{event.host}: {event.step}: {event.what}")
                case PhaseDone():
                    print(f"{event.host}: {event.phase} took {event.seconds:.1f} s")
                case HostFailed():
                    print(f"{event.host}: {request.secrets.mask(str(event.error))}", file=sys.stderr)
                case Result(data=Applied(made=made, joined=joined)):
                    write(kubeconfig, made.kubeconfig)  # whole, and readable by its owner alone
                    print(f"Nodes that joined: {', '.join(joined) or 'none'}")
                    print(f"export KUBECONFIG={kubeconfig}")


def main(what: str, inventory: str, kubeconfig: str = "kubeconfig") -> int:
    """Do it, and give the exit code."""
    try:
        cluster = Cluster.load(inventory)
        match what:
            case "plan":
                print(cluster.plan("init"), cluster.plan("join"), sep="\n")
            case "diff":
                print("\n".join(cluster.diff().lines()))
            case "apply":
                apply(cluster, Path(kubeconfig))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except BootstrapError as error:
        print(error, file=sys.stderr)
        return error.code if isinstance(error, HostsFailed) else error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
