"""What the pages show is so: inventories load, commands exist, and blocks that can be run are run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from bootstrap import cli, inventory
from tests.apiserver import pki

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
ONE_HOST = {"hosts": [{"name": "one", "address": "192.0.2.1", "roles": ["control-plane"]}]}
HEADER = {"apiVersion": "kubestrap.io/v1alpha1", "kind": "Inventory"}


@dataclass(frozen=True)
class Block:
    """A fenced block: the words after the fence, and its text."""

    page: Path
    line: int
    words: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for found in re.finditer(r"^```([^\n`]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield Block(page, text.count("\n", 0, found.start()) + 1, tuple(found[1].split()), found[2])


BLOCKS = list(blocks())
INVENTORIES = [block for block in BLOCKS if block.words[:1] == ("yaml",)]
RUN = {block.page for block in BLOCKS if block.words == ("sh", "run")}


@pytest.mark.parametrize("block", INVENTORIES, ids=str)
def test_every_inventory_of_the_pages_can_be_used(block: Block, tmp_path: Path) -> None:
    """One that is not whole is a part that is added to the smallest inventory there is."""
    shown = yaml.safe_load(block.text)
    (tmp_path / "kubeadm.yaml").write_text("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n")
    for folder in ("patches", "patches-master1", "hooks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "hooks" / "add-to-load-balancer.sh").write_text("#!/bin/sh\n")
    (tmp_path / "files-ca.pem").write_bytes(pki("ca.crt"))
    source = block.text
    if "kind" not in shown:
        data = {**HEADER, **ONE_HOST, **shown}
        missing = ({"address": f"192.0.2.{number}", "roles": ["control-plane"]} for number in range(101, 200))
        data["hosts"] = [{**more, **host} for more, host in zip(missing, data["hosts"], strict=False)]
        if not any("control-plane" in host["roles"] for host in data["hosts"]):
            data["hosts"] += ONE_HOST["hosts"]
        source = yaml.safe_dump(data)
    elif "hosts" not in shown:
        source += yaml.safe_dump(ONE_HOST)
    inventory.require_supported(inventory.read(source.encode(), name=str(block), folder=tmp_path))


def command_lines() -> Iterator[tuple[str, str]]:
    """Give each call of the command that stands alone in a line of a block, and where."""
    for page in PAGES:
        for number, line in enumerate(page.read_text().splitlines(), start=1):
            if found := re.match(r"^ {4,}((?:\./)?kubestrap(?:\.pyz)? .*)$", line):
                yield f"{page.name}:{number}", found[1]


@pytest.fixture(scope="module")
def top() -> Any:
    return typer.main.get_command(cli.command())


@pytest.mark.parametrize(("where", "line"), list(command_lines()))
def test_every_command_of_the_pages_exists_with_its_options(where: str, line: str, top: Any) -> None:
    _, *arguments = shlex.split(re.split(r"[|>;]", line.replace("...", "X"))[0], comments=True)
    command = top
    with command.make_context("kubestrap", [], resilient_parsing=True) as context:
        while arguments and arguments[0] in getattr(command, "commands", {}):
            command = command.commands[arguments.pop(0)]
        assert not getattr(command, "commands", {}) or command.invoke_without_command, f"{where}: {line}"
        command.make_parser(context).parse_args(args=arguments)


@pytest.mark.parametrize("page", sorted(RUN), ids=lambda page: page.stem)
def test_blocks_that_can_be_run_succeed(page: Path, path_with_command: str, tmp_path: Path) -> None:
    for block in BLOCKS:
        if block.page != page:
            continue
        for word in block.words:
            if word.startswith("file="):
                (tmp_path / word.removeprefix("file=")).write_text(block.text)
        if block.words == ("sh", "run"):
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.text],
                cwd=tmp_path,
                env={**os.environ, "PATH": path_with_command},
                capture_output=True,
                text=True,
                timeout=200,
                check=False,
            )
            assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"
