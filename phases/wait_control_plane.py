"""Waiting for the control plane to be well, and to stay so (kubeadm: cmd/phases/init/waitcontrolplane.go)."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bootstrap import diagnosis, paths
from bootstrap.phases import kubelet, local_proxy, static_pods, vip
from bootstrap.phases.runtime import CTR
from bootstrap.plan import Phase
from bootstrap.render import merge
from bootstrap.steps import Command, Step, Wait

if TYPE_CHECKING:
    from bootstrap.phases.static_pods import StaticPod
    from bootstrap.site import Node, Site

STEADY_SECONDS = 3
"""How long each container of the control plane must have run: one that fails at its start does so earlier."""

NOTICED_SECONDS = 20
"""How long after a manifest's change its Pod may be the former one: kubelets read the folder again that often
(`fileCheckFrequency`), whatever became of their notices. A manifest that changed in no field keeps its Pod."""

_CLOCK_TICKS = 100  # a second, of the times in /proc/PID/stat; the same on every Linux (USER_HZ)


def steps(site: Site, node: Node) -> Iterator[Step]:
    """Wait until the kubelet and all components answer and run steadily, or it is certain that they will not."""
    from bootstrap.spec import seconds

    timeouts = site.cluster.timeouts
    # What was wrong may be mended by now, while the kubelet still puts the next start off, for minutes.
    yield Command(
        "no component whose next start is put off",
        unless=diagnosis.none_held_back(static_pods.COMPONENTS),
        run="systemctl restart kubelet.service",
    )
    config = merge(kubelet.cluster_config(site.cluster), node.host.kubelet.config)
    if config["healthzPort"]:
        url = f"http://{config['healthzBindAddress']}:{config['healthzPort']}/healthz"
        yield Wait(
            "the kubelet to answer",
            until=diagnosis.until(_answers("kubelet", url), static_pods.COMPONENTS),
            seconds=seconds(timeouts.kubelet_health_check),
            explain=diagnosis.explain(static_pods.COMPONENTS),
            evidence=True,
        )
    pods = static_pods.pods(site, node)
    yield Wait(
        "the control plane to answer and to run steadily",
        until=diagnosis.until("\n".join([_CURRENT, *map(_answers_pod, pods), _STEADY]), static_pods.COMPONENTS),
        seconds=seconds(timeouts.control_plane_component_health_check),
        explain=diagnosis.explain(static_pods.COMPONENTS),
        evidence=True,
    )
    if address := site.cluster.virtual_address:
        yield Wait(
            f"the API server to answer at the virtual address {address}",
            until=_answers("kube-apiserver", f"https://{address}:{site.cluster.endpoint.port}/readyz", verified=True),
            seconds=seconds(timeouts.control_plane_component_health_check),
            explain=_HOLDERS,
        )


def _answers_pod(pod: StaticPod) -> str:
    paths_asked = {static_pods.SCHEDULER: "/livez", static_pods.CONTROLLER_MANAGER: "/healthz"}
    url = pod.probes.url(paths_asked.get(pod.name, "/readyz"))
    return _answers(pod.name, url, verified=pod.name == static_pods.APISERVER)


def _answers(name: str, url: str, *, verified: bool = False) -> str:
    # kubectl, as it is there while curl may not be; --raw asks just this path. Of the API server its own address is
    # asked, not the endpoint's, which may be a load balancer that does not know it yet.
    path = url[url.index("/", len("https://")) :]
    if url.startswith("http://"):
        how = "--kubeconfig /dev/null"
    else:
        # With no credentials kubectl would ask for a user. As in kubeadm, it is only on the machine itself that who
        # answers is not checked: controller-manager and scheduler have certificates that nobody signed.
        how = f"--kubeconfig {paths.ADMIN_CONF}" + ("" if verified else " --insecure-skip-tls-verify")
    asked = f"{kubelet.KUBECTL} {how} --server {url.removesuffix(path)} --request-timeout 5s get --raw {path}"
    # As long as nothing listens there, kubectl would only take the processors from what is being started.
    port = int(url.removesuffix(path).rpartition(":")[2])
    listens = f"grep -q -s ':{port:04X} [0-9A-F]*:0000 0A' /proc/net/tcp /proc/net/tcp6"
    return f"""
{listens} || {{ echo "{name} does not answer {path}: nothing listens on port {port}"; exit 1; }}
answer=$({asked} 2>&1) || {{ echo "{name} does not answer {path}: $answer"; exit 1; }}"""


# `containers` leaves out those of a former Pod: such a one may answer, well and steady, until the kubelet notices.
_CURRENT = f"""
for component in $components; do
    changed=$(stat -c %Y -- "$manifests/$component.yaml" 2>/dev/null) || continue
    changed=$(($(date +%s) - changed))
    if [ "$changed" -lt 0 ] || [ "$changed" -ge {NOTICED_SECONDS} ]; then continue; fi
    containers "$component" | awk '$2 == 0 {{ found = 1 }} END {{ exit !found }}' ||
        {{ echo "$component does not run from its manifest of $changed s ago yet"; exit 1; }}
done"""
_FILTERS = " ".join(shlex.quote(static_pods.container_filter(name)) for name in static_pods.COMPONENTS)
# Ages come from the processes, so that a control plane that has run for long need not be watched again. "Now" is when
# the process that is asking was started: /proc/uptime may be another one's in a system container.
_STEADY = f"""
ours=$({CTR} --namespace k8s.io containers ls --quiet {_FILTERS} | tr '\\n' ' ')
tasks=$({CTR} --namespace k8s.io tasks ls) || exit 1
pids=$(echo "$tasks" | awk -v ours="$ours" '
    BEGIN {{ split(ours, ids, " "); for (i in ids) known[ids[i]] = 1 }}
    $3 == "RUNNING" && $1 in known {{ print $2 }}')
set -- $pids
[ $# -eq {len(static_pods.COMPONENTS)} ] || {{ echo "$# of {len(static_pods.COMPONENTS)} components run"; exit 1; }}
for pid in "$@"; do
    cat /proc/self/stat "/proc/$pid/stat" | sed 's/.*) //' | awk '
        {{ started[NR] = $20 }} END {{ exit (NR < 2 || started[1] - started[2] < {STEADY_SECONDS * _CLOCK_TICKS}) }}' ||
        {{ echo "a component was started less than {STEADY_SECONDS} seconds ago"; exit 1; }}
done
"""
_HOLDERS = f"""
for name in {local_proxy.NAME} {vip.NAME}; do
    log=$(ls -t /var/log/pods/kube-system_"$name"-*/"$name"/*.log 2>/dev/null | head -n 1)
    [ "$log" ] || {{ echo "$name has not been started"; continue; }}
    echo "$name says:"
    tail -n 10 "$log" | cut -d ' ' -f 4-
done"""
WAIT_CONTROL_PLANE = Phase("wait-control-plane", "control-plane", steps, in_turn=True)
