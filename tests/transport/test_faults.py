"""Whole plans over links that fail, to real OpenSSH servers; each stands for a machine with a /var/lib of its own."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sshd import Server, both, inventory, running

from bootstrap import spec
from bootstrap.api import Api
from bootstrap.errors import ConnectionLost, HostsFailed
from bootstrap.events import Event, StepDone
from bootstrap.execute import Means, execute
from bootstrap.plan import Phase, Plan, build
from bootstrap.site import Contents, Node, Site
from bootstrap.spec import Cluster
from bootstrap.steps import Command, File, Step
from bootstrap.transport.ssh import connect
from tests.tcpproxy import Proxy

LIMIT = 120.0


def _no_api() -> Api:
    raise AssertionError("no step here needs the API server")


def _isolated(folder: Path) -> str:
    """Give the line of sshd_config that has commands see folders of the test as /var/lib and /run/kubestrap."""
    for name in ("lib", "run"):
        (folder / name).mkdir(parents=True)
    Path("/run/kubestrap").mkdir(exist_ok=True)
    mounts = f"mount --bind {folder}/lib /var/lib && mount --bind {folder}/run /run/kubestrap"
    return f"ForceCommand exec unshare -m sh -c '{mounts} && eval \"$SSH_ORIGINAL_COMMAND\"'"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, Server]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(running(tmp_path / name, _isolated(tmp_path / name))) for name in ("cut", "other")
        }


def _plan(folder: Path, names: list[str]) -> Plan:
    nodes = tuple(Node(spec.Host(name=name, address=name, roles=("worker",)), "10.0.0.1") for name in names)
    site = Site(Cluster(), nodes, Contents("1.37.2", "linux/amd64", (), ()))

    def steps(_: Site, node: Node) -> Iterator[Step]:
        yield File(f"{folder}/first-{node.name}", b"")
        over = f"{folder}/over"
        yield Command("the link is cut meanwhile", "true", f"until [ -e {over} ]; do sleep 0.1; done", seconds=LIMIT)
        yield File(f"{folder}/last-{node.name}", b"")

    return build([Phase("work", "all", steps)], site, nodes=nodes)


@pytest.mark.parametrize("how", ["reset", "silence"])
@both
def test_f6_a_host_whose_link_is_cut_is_named_and_the_others_go_on(
    servers: dict[str, Server], tmp_path: Path, how: str
) -> None:
    plan = _plan(tmp_path, list(servers))
    events: list[Event] = []
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(servers["cut"].port))
        known = tmp_path / "known_hosts"
        known.write_text(
            servers["cut"].known_hosts.read_text().replace(f":{servers['cut'].port} ", f":{proxy.port} ", 1)
        )
        targets = {
            "cut": servers["cut"].host(port=proxy.port, known_hosts_file=str(known)),
            "other": servers["other"].host(),
        }
        targets = {name: target.model_copy(update={"name": name}) for name, target in targets.items()}
        hosts = {
            name: stack.enter_context(connect(inventory(target), target, lost_after=5))
            for name, target in targets.items()
        }

        def listen(event: Event) -> None:
            events.append(event)
            if isinstance(event, StepDone) and event.host == "cut":
                getattr(proxy, how)()
                (tmp_path / "over").touch()

        with pytest.raises(HostsFailed) as raised:
            execute(plan, Means(hosts, _no_api, lambda _: io.BytesIO()), listen)
    assert {name: type(error) for name, error in raised.value.failures.items()} == {"cut": ConnectionLost}
    assert str(raised.value).startswith("cut: ")
    assert raised.value.succeeded == ("other",)
    assert (tmp_path / "last-other").exists()

    events.clear()
    with ExitStack() as stack:
        again = {name: servers[name].host().model_copy(update={"name": name}) for name in servers}
        hosts = {name: stack.enter_context(connect(inventory(host), host)) for name, host in again.items()}
        execute(plan, Means(hosts, _no_api, lambda _: io.BytesIO()), events.append)
    assert (tmp_path / "last-cut").exists()
    assert [event.host for event in events if isinstance(event, StepDone) and event.state == "changed"] in ([], ["cut"])
