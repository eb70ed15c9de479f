"""A control-plane host's way into an etcd that serves: as a learner, and then with a vote (kubeadm: `etcd-join`).

A learner takes no part in decisions, so that one which never gets well takes nothing from the others
(https://etcd.io/docs/latest/learning/design-learner/). One that fails before it votes is taken out again.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bootstrap.phases import static_pods, wait_control_plane
from bootstrap.phases.runtime import CTR
from bootstrap.plan import Phase
from bootstrap.steps import Absent, Command, HostStep, Learner, Step, Voter

if TYPE_CHECKING:
    from bootstrap.site import Node, Site

_STOP_SECONDS = 30  # what a kubelet gives a Pod to end by itself


def steps(site: Site, node: Node) -> Iterator[Step]:
    """Add an etcd member as a learner, start it, and give it a vote when it has caught up."""
    from bootstrap.spec import seconds

    peer = static_pods.peer_url(node)
    gone = _gone(site)
    if node.name in site.lost:
        # First: what is left of it must not start again while its new self is expected.
        yield from gone
    yield Learner(node.name, peer, lost=site.lost.get(node.name, 0), withdrawn=gone)
    yield from static_pods.etcd_steps(site, node)
    yield wait_control_plane.not_held_back("no etcd member", (static_pods.ETCD,))
    # Whether it has caught up with the others its promotion tells.
    yield wait_control_plane.answering(site, node, static_pods.etcd(site, node), "/livez")
    yield Voter(node.name, peer, seconds=seconds(site.cluster.timeouts.etcd_api_call))


def _gone(site: Site) -> tuple[HostStep, ...]:
    data = shlex.quote(f"{site.cluster.etcd.local.data_dir}/member")
    containers = f"{CTR} --namespace k8s.io containers ls --quiet {shlex.quote(static_pods.container_filter('etcd'))}"
    tasks = f"{CTR} --namespace k8s.io tasks"
    remove = f"{CTR} --namespace k8s.io containers rm"
    return (
        Absent(static_pods.path(static_pods.ETCD)),
        Command(
            "nothing left of a former etcd member",
            # A kubelet that never saw its API server forgets no static Pod (kubelet.go, deletePod): it would start the
            # old one again and again, and a new one never. So it is begun anew, and what runs is ended without it.
            unless=f'[ ! -e {data} ] && [ -z "$({containers})" ]',
            run=f"""
set -e
trap 'systemctl start kubelet.service' EXIT
systemctl stop kubelet.service
ids=$({containers})
runs() {{ for id in $ids; do {tasks} ls | grep -q "^$id .*RUNNING" && return; done; return 1; }}
end() {{ for id in $ids; do {tasks} kill --signal "$1" "$id" 2>/dev/null || true; done; }}
end SIGTERM
waited=0
while runs; do
    [ "$waited" -ne {_STOP_SECONDS} ] || end SIGKILL
    [ "$waited" -lt {2 * _STOP_SECONDS} ] || {{ echo "etcd runs on, $waited s after it was told to end" >&2; exit 1; }}
    sleep 1
    waited=$((waited + 1))
done
for id in $ids; do
    {tasks} rm "$id" 2>/dev/null || true
    {remove} "$id"
done
rm -rf -- {data}
""",
            seconds=2 * _STOP_SECONDS + 60,
        ),
    )


ETCD_JOIN = Phase("etcd-join", "etcd", steps, in_turn=True)
