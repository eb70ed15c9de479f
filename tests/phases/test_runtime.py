from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bootstrap import paths
from bootstrap.phases import INIT, kubelet, runtime
from bootstrap.plan import build
from bootstrap.site import Node, Site
from bootstrap.steps import Binary, Command, Image, Server, Unit, Wait
from tests.builders import BINARIES, IMAGES, node, site

CRI = "containerd runs without its CRI plug-in, which the kubelet needs: it is"


def test_every_binary_of_the_bundle_is_installed_by_one_of_two_phases() -> None:
    described = site()
    installed = [
        step.path
        for steps in (runtime.runtime_steps, kubelet.install_steps)
        for step in steps(described, described.nodes[0])
        if isinstance(step, Binary)
    ]
    assert sorted(installed) == sorted(BINARIES)


def imported(described: Site, host: Node) -> set[str]:
    names = {reference: name for name, reference in IMAGES.items()}
    return {names[step.reference] for step in runtime.images_steps(described, host) if isinstance(step, Image)}


def test_a_control_plane_host_gets_every_image_but_the_workers_proxy() -> None:
    assert imported(site(), site().nodes[0]) == set(IMAGES) - {"haproxy", "keepalived"}


def test_the_proxy_goes_to_workers_of_several_control_plane_hosts() -> None:
    described = site(node("cp1"), node("cp2", address="192.0.2.12"), node("worker", "worker", address="192.0.2.13"))
    assert ["haproxy" in imported(described, member) for member in described.nodes] == [False, False, True]


def test_a_worker_gets_what_may_run_there() -> None:
    assert imported(site(), site().nodes[1]) == {"pause", "kube-proxy", "coredns", "flannel", "agnhost"}


def test_images_of_what_is_not_installed_stay_away() -> None:
    described = site(
        cluster={"kubeProxy": {"disabled": True}, "addons": {"cni": "none", "coredns": {"disabled": True}}}
    )
    assert imported(described, described.nodes[1]) == {"pause", "agnhost"}


def test_containerd_is_started_anew_after_a_change_of_its_configuration() -> None:
    (unit,) = [step for step in runtime.runtime_steps(site(), node()) if isinstance(step, Unit)]
    assert paths.CONTAINERD_CONFIG in unit.uses


def test_a_runtime_of_the_users_stands_beside_ours() -> None:
    given = {"plugins": {"io.containerd.cri.v1.runtime": {"containerd": {"runtimes": {"kata": {"runtime_type": "x"}}}}}}
    made = runtime.config(site(cluster={"containerd": {"config": given}}), node().host)
    assert set(made["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]) == {"runc", "kata"}


@pytest.mark.parametrize(
    ("listing", "status", "told"),
    [
        ("io.containerd.grpc.v1    cri    linux/amd64    ok", 0, ""),
        ("io.containerd.grpc.v1    cri    linux/amd64    error", 2, f"{CRI} error"),
        ("io.containerd.other.v1    cri    linux/amd64    ok", 2, f"{CRI} absent"),
    ],
    ids=["ok", "error", "absent"],
)
def test_containerd_answers_when_its_cri_plug_in_does(tmp_path: Path, listing: str, status: int, told: str) -> None:
    ctr = tmp_path / "ctr"
    ctr.write_text(f"#!/bin/sh\necho 'TYPE ID PLATFORMS STATUS'\necho '{listing}'\n")
    ctr.chmod(0o755)
    (wait,) = [step for step in runtime.runtime_steps(site(), node()) if isinstance(step, Wait)]
    script = wait.until.replace(runtime.CTR, str(ctr))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (status, told)


def memory(tmp_path: Path) -> tuple[Path, str]:
    """Have a kubelet that remembers pulls, and the script that says so."""
    folder = tmp_path / "image_manager"
    notes = {
        "pulled/interrupted": '{"kind":"ImagePulledRecord","imageRef":"sha256:0001"}',
        "pulled/private": '{"kind":"ImagePulledRecord","imageRef":"sha256:0001","credentialMapping":{}}',
        "pulled/foreign": '{"kind":"ImagePulledRecord","imageRef":"sha256:0002"}',
        "pulling/now": '{"kind":"ImagePullIntent","image":"registry.example/ours:1"}',
        "pulling/foreign": '{"kind":"ImagePullIntent","image":"registry.example/theirs:1"}',
    }
    for name, text in notes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    ctr = tmp_path / "ctr"
    ctr.write_text(
        "#!/bin/sh\ncat <<'X'\nREF TYPE DIGEST SIZE PLATFORMS LABELS\n"
        "registry.example/ours:1 type sha256:aa 77.2 MiB linux/amd64 io.cri-containerd.pinned=pinned\n"
        "registry.example/theirs:1 type sha256:bb 77.2 MiB linux/amd64 io.cri-containerd.image=managed\n"
        "sha256:0001 type sha256:aa 77.2 MiB linux/amd64 -\nsha256:0002 type sha256:bb 77.2 MiB linux/amd64 -\nX\n"
    )
    ctr.chmod(0o755)
    (step,) = [step for step in runtime.images_steps(site(), node()) if isinstance(step, Command)]
    return folder, step.unless.replace(f"{paths.KUBELET}/image_manager", str(folder)).replace(runtime.CTR, str(ctr))


def test_interrupted_pulls_of_our_images_alone_are_forgotten(tmp_path: Path) -> None:
    folder, unless = memory(tmp_path)
    listing = unless.rpartition("[ -z")[0] + "pulls"
    listed = subprocess.run(["sh", "-c", listing], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(listed) == [str(folder / "pulled/interrupted"), str(folder / "pulling/now")]


def test_a_kubelet_that_remembers_no_interrupted_pull_goes_on(tmp_path: Path) -> None:
    folder, unless = memory(tmp_path)
    assert subprocess.run(["sh", "-c", unless], check=False).returncode == 1
    (folder / "pulled/interrupted").unlink()
    (folder / "pulling/now").unlink()
    assert subprocess.run(["sh", "-c", unless], check=False).returncode == 0


def test_where_a_server_has_the_bundle_every_program_and_image_is_fetched_from_there() -> None:
    described = site(cluster={"bundle": {"url": "https://files.example.com/kubernetes/"}})
    steps = [
        step
        for task in build(INIT, described, nodes=described.nodes).tasks
        for step in task.steps
        if isinstance(step, Binary | Image)
    ]
    assert {type(step) for step in steps} == {Binary, Image}
    assert {step.server for step in steps} == {Server("https://files.example.com/kubernetes/blobs/sha256")}
