"""Waiting for the control plane to be well, and to stay so (kubeadm: cmd/phases/init/waitcontrolplane.go)."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bootstrap import diagnosis, paths
from bootstrap.phases import kubelet, local_proxy, static_pods, vip
from bootstrap.phases.runtime import CTR
from bootstrap.plan import Phase
from bootstrap.steps import Command, Fallback, Step, Wait

if TYPE_CHECKING:
    from bootstrap.phases.static_pods import StaticPod
    from bootstrap.site import Node, Site

STEADY_SECONDS = 3
"""How long each container of the control plane must have run: one that fails at its start does so earlier."""

_SERVED = f"{paths.PKI}/apiserver.crt"
_CLOCK_TICKS = 100  # a second, of the times in /proc/PID/stat; the same on every Linux (USER_HZ)


def steps(site: Site, node: Node) -> Iterator[Step]:
    """Wait until the kubelet and all components answer and run steadily, or it is certain that they will not."""
    from bootstrap.spec import seconds

    timeouts = site.cluster.timeouts
    former = fallback(site, node)
    components = _components(site, node)
    yield not_held_back("no component", components)
    if asked := kubelet.answers(site.cluster, node):
        yield Wait(
            "the kubelet to answer",
            until=diagnosis.until(asked, components),
            seconds=seconds(timeouts.kubelet_health_check),
            explain=diagnosis.explain(components),
            evidence=True,
            fallback=former,
        )
    virtual = site.cluster.virtual_address if node.host.is_control_plane else ""
    yield Wait(
        f"{'etcd' if node.host.is_etcd else 'the control plane'} to answer and to run steadily",
        until=diagnosis.until(_serves(site, node), components, _glance(site, node)),
        seconds=seconds(timeouts.control_plane_component_health_check),
        explain=diagnosis.explain(components),
        evidence=True,
        fallback=former,
        last=not virtual,
    )
    if virtual:
        yield Wait(
            f"the API server to answer at the virtual address {virtual}",
            until=_answers_virtually(site),
            seconds=seconds(timeouts.control_plane_component_health_check),
            explain=_HOLDERS,
            fallback=former,
            last=True,
        )


def fallback(site: Site, node: Node) -> Fallback:
    """Give what a control-plane host goes back to where it does not get well: its manifests and its kubelet's settings.

    kubeadm does so with a manifest whose Pod does not start in an upgrade (phases/upgrade/staticpods.go).
    """
    from bootstrap.spec import seconds

    is_virtual = bool(site.cluster.virtual_address) and node.host.is_control_plane
    virtually = _answers_virtually(site) if is_virtual else ""
    asked = "\n".join([kubelet.answers(site.cluster, node), _serves(site, node), virtually])
    components = _components(site, node)
    return Fallback(
        (*map(static_pods.path, components), *(vip.FILES if is_virtual else ()), *kubelet.SETTINGS),
        well=diagnosis.until(asked, components),
        seconds=seconds(site.cluster.timeouts.control_plane_component_health_check),
        unit=kubelet.unit(),
    )


def _serves(site: Site, node: Node) -> str:
    pods = _pods(site, node)
    return "\n".join([kubelet.CURRENT, *map(_answers_pod, pods), _steady([pod.name for pod in pods])])


def _glance(site: Site, node: Node) -> str:
    # Each program that is started, above all kubectl, takes time from what is waited for. All but the API server
    # answer as soon as they have run for a while.
    pods = _pods(site, node)
    latest = "\n".join(_answers_pod(pod) for pod in pods if pod.name == static_pods.APISERVER)
    ports = "\n".join(kubelet.listens(pod.name, _url(pod)) for pod in pods)
    return f"""
{ports}
changing=$(for component in $components; do
    for link in "$logs/containers/$component-"*"_kube-system_$component-"*.log; do
        id=${{link%.log}}
        echo "$cri/${{id##*-}}/status"
    done
done)
changing=$(find $changing -newermt '-{STEADY_SECONDS} seconds' 2>/dev/null | wc -l)
[ "$changing" -eq 0 ] || {{ echo "a component was started less than {STEADY_SECONDS} seconds ago"; exit 1; }}
{latest}"""


def _pods(site: Site, node: Node) -> list[StaticPod]:
    return [static_pods.as_patched(site, node, pod) for pod in static_pods.pods(site, node)]


def _components(site: Site, node: Node) -> tuple[str, ...]:
    return tuple(pod.name for pod in static_pods.pods(site, node))


def _answers_virtually(site: Site) -> str:
    address = site.cluster.virtual_address
    url = f"https://{address}:{site.cluster.endpoint.port}/readyz"
    return kubelet.answer(static_pods.APISERVER, url, f"--kubeconfig {paths.ADMIN_CONF}") if address else ""


def not_held_back(who: str, components: tuple[str, ...]) -> Command:
    """Give the step that has the kubelet start at once what it would put off, for minutes, as it failed before."""
    return Command(
        f"{who} whose next start is put off",
        unless=diagnosis.none_held_back(components),
        run="systemctl restart kubelet.service",
    )


def serving_steps(site: Site, node: Node) -> Iterator[Step]:
    """Wait until the host's own API server answers, or it is certain that it will not."""
    yield answering(site, node, static_pods.apiserver(site, node), "/readyz")


def answering(site: Site, node: Node, pod: StaticPod, path: str) -> Wait:
    """Give the wait for a static Pod on `node` to answer that it is well at `path`, and what is told if it does not."""
    from bootstrap.spec import seconds

    return Wait(
        f"{pod.name} to answer",
        until=diagnosis.until(_answers_pod(static_pods.as_patched(site, node, pod), path), (pod.name,)),
        seconds=seconds(site.cluster.timeouts.control_plane_component_health_check),
        explain=diagnosis.explain((pod.name,)),
        evidence=True,
    )


def _url(pod: StaticPod, path: str = "") -> str:
    paths_asked = {static_pods.SCHEDULER: "/livez", static_pods.CONTROLLER_MANAGER: "/healthz"}
    return pod.probes.url(path or paths_asked.get(pod.name, "/readyz"))


def _answers_pod(pod: StaticPod, path: str = "") -> str:
    url = _url(pod, path)
    if url.startswith("http://"):
        return kubelet.answer(pod.name, url, "--kubeconfig /dev/null")
    # With no credentials kubectl would ask for a user. As in kubeadm, it is only on the machine itself that who
    # answers is not checked: controller-manager and scheduler have certificates that nobody signed. Of the API server
    # its own address is asked, not the endpoint's, which may be a load balancer that does not know it yet.
    verified = "--insecure-skip-tls-verify"
    if pod.name == static_pods.APISERVER:
        # It takes a new certificate from its file without a restart. Trusting that one alone proves that it has.
        served = dict(pod.flags).get("tls-cert-file")
        verified = f"--certificate-authority {served}" if served == _SERVED else ""
    return kubelet.answer(pod.name, url, f"--kubeconfig {paths.ADMIN_CONF} {verified}".rstrip())


def _steady(components: Sequence[str]) -> str:
    # Ages come from the processes, so that a control plane that has run for long need not be watched again. "Now" is
    # when the process that is asking was started: /proc/uptime may be another one's in a system container.
    filters = " ".join(shlex.quote(static_pods.container_filter(name)) for name in components)
    return f"""
ours=$({CTR} --namespace k8s.io containers ls --quiet {filters} | tr '\\n' ' ')
tasks=$({CTR} --namespace k8s.io tasks ls) || exit 1
pids=$(echo "$tasks" | awk -v ours="$ours" '
    BEGIN {{ split(ours, ids, " "); for (i in ids) known[ids[i]] = 1 }}
    $3 == "RUNNING" && $1 in known {{ print $2 }}')
set -- $pids
[ $# -eq {len(components)} ] || {{ echo "$# of {len(components)} components run"; exit 1; }}
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
WAIT_CONTROL_PLANE = Phase("wait-control-plane", "control-plane, etcd", steps, in_turn=True)
