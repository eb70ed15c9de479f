from __future__ import annotations

import shlex
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bootstrap import paths
from bootstrap.phases import registries, runtime
from bootstrap.site import Site
from bootstrap.spec import LocalFile, Logins
from bootstrap.steps import Absent, Command, File, Step, Unit
from tests.builders import site

LOGIN = "Basic bWU6c2VjcmV0"
CA = b"-----BEGIN CERTIFICATE-----\n"


def given(logins: Mapping[str, str] | None = None, *, ca: bool = False, **settings: Any) -> Site:
    """Make a site with these registries; `logins` are headers by host."""
    files: dict[str, Any] = {"authFile": Logins("logins.json", logins)} if logins else {}
    files |= {"caFile": LocalFile("ca.pem", CA)} if ca else {}
    return site(cluster={"registries": {**settings, **files}})


def steps(described: Site) -> list[Step]:
    return list(registries.steps(described))


def files(described: Site) -> dict[str, File]:
    return {step.path: step for step in steps(described) if isinstance(step, File)}


def hosts(described: Site, folder: str) -> Any:
    return tomllib.loads(files(described)[f"/etc/containerd/certs.d/{folder}/hosts.toml"].data.decode())


def test_without_registries_nothing_is_written() -> None:
    assert files(site()) == {}


def test_mirrors_are_asked_in_order_before_the_registry_itself() -> None:
    described = given(mirrors={"registry.k8s.io": ["https://b.example", "http://a.example:5000"]})
    told = hosts(described, "registry.k8s.io")
    assert told["server"] == "https://registry.k8s.io"
    assert list(told["host"]) == ["https://b.example", "http://a.example:5000"]
    assert told["host"]["https://b.example"]["capabilities"] == ["pull", "resolve"]


def test_a_path_of_a_mirror_stands_before_the_names_of_images() -> None:
    ((url, mirror),) = hosts(given(mirrors={"docker.io": ["https://a.example/hub"]}), "docker.io")["host"].items()
    assert url == "https://a.example/v2/hub"
    assert mirror["override_path"] is True


def test_dockers_registry_is_at_another_host_than_its_name_says() -> None:
    assert hosts(given(mirrors={"docker.io": []}), "docker.io")["server"] == "https://registry-1.docker.io"


def test_mirrors_of_all_others_leave_each_its_own_server() -> None:
    assert "server" not in hosts(given(mirrors={"*": ["https://a.example"]}), "_default")


def test_a_port_is_written_as_containerd_does() -> None:
    assert hosts(given(mirrors={"a.example:5000": []}), "a.example_5000_")["server"] == "https://a.example:5000"


def test_a_login_is_in_files_of_root_alone_and_never_shown() -> None:
    described = given(
        {"a.example": LOGIN}, mirrors={"ghcr.io": ["https://a.example"], "quay.io": ["https://b.example"]}
    )
    shut = {path: (file.mode, file.secret) for path, file in files(described).items()}
    assert shut == {
        "/etc/containerd/certs.d/ghcr.io/hosts.toml": (0o600, True),
        "/etc/containerd/certs.d/a.example/hosts.toml": (0o600, True),
        "/etc/containerd/certs.d/quay.io/hosts.toml": (0o644, False),
    }
    assert hosts(described, "ghcr.io")["host"]["https://a.example"]["header"] == {"authorization": [LOGIN]}
    assert "header" not in hosts(described, "ghcr.io")
    assert hosts(described, "a.example")["header"] == {"authorization": [LOGIN]}


def test_a_ca_is_trusted_for_mirrors_and_private_registries() -> None:
    told = hosts(given(ca=True, mirrors={"ghcr.io": ["https://a.example"]}), "ghcr.io")
    assert told["ca"] == told["host"]["https://a.example"]["ca"] == paths.REGISTRIES_CA
    assert files(given(ca=True, mirrors={}))[paths.REGISTRIES_CA].data == CA


def test_a_ca_that_the_inventory_has_no_more_goes() -> None:
    assert Absent(paths.REGISTRIES_CA) in steps(site())


def test_a_proxy_is_not_used_within_the_cluster() -> None:
    described = given(httpsProxy="http://proxy.example:3128", noProxy=[".example.com"])
    text = files(described)[paths.CONTAINERD_PROXY].data.decode()
    assert 'Environment="HTTPS_PROXY=http://proxy.example:3128"\n' in text
    assert "HTTP_PROXY=" not in text.replace("HTTPS_PROXY=", "")
    inside = "localhost,127.0.0.0/8,10.244.0.0/16,10.96.0.0/12,.svc,.cluster.local,.example.com"
    assert f'Environment="NO_PROXY={inside}"\n' in text


def test_containerd_is_started_anew_for_another_proxy() -> None:
    described = given(httpProxy="http://proxy.example:3128")
    (unit,) = [step for step in runtime.runtime_steps(described, described.nodes[0]) if isinstance(step, Unit)]
    assert paths.CONTAINERD_PROXY in unit.uses


def test_what_we_wrote_for_a_registry_that_is_gone_goes_and_nothing_else(tmp_path: Path) -> None:
    described = given(mirrors={"ghcr.io": ["https://a.example"]})
    (ours,) = files(described).values()
    for host in ("ghcr.io", "quay.io"):
        (tmp_path / host).mkdir()
        (tmp_path / host / "hosts.toml").write_bytes(ours.data)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "hosts.toml").write_text('server = "https://theirs.example"\n')
    command = next(step for step in steps(described) if isinstance(step, Command))
    run, unless = (text.replace(paths.REGISTRIES, shlex.quote(str(tmp_path))) for text in (command.run, command.unless))
    assert subprocess.run(["sh", "-c", unless], check=False).returncode != 0
    subprocess.run(["sh", "-c", run], check=True)
    assert sorted(file.parent.name for file in tmp_path.glob("*/hosts.toml")) == ["ghcr.io", "theirs"]
    subprocess.run(["sh", "-c", unless], check=True)
