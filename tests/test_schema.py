from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bootstrap import cli
from bootstrap.inventory import dump, load
from bootstrap.schema import MEANINGS, schema
from tests.schemas import wrong

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "inventory"
CASES = sorted(path.stem for path in GOLDEN.glob("*.yaml"))
ACROSS_THE_FILE = {
    "address-in-subnet",
    "bad-patch",
    "cgroup-driver",
    "duplicate-address",
    "duplicate-env",
    "duplicate-host",
    "duplicate-node-address",
    "duplicate-role",
    "duplicate-taint",
    "duplicate-volume",
    "endpoint-port",
    "etcd-both",
    "etcd-role",
    "family-mismatch",
    "no-control-plane",
    "subnets-overlap",
    "too-few-pod-networks",
    "unused",
    "validity",
}
IN_YAML_ITSELF = {
    "alias",
    "ambiguous-number",
    "ambiguous-word",
    "bad-key",
    "duplicate-key",
    "encoding",
    "merge-key",
    "several-documents",
    "syntax",
    "tab",
    "tag",
    "too-deep",
}
BY_MEANING = {
    "bad-hook--script",
    "bad-path--home",
    "bad-path--registries",
    "bad-path--registry-files",
    "host-bits",
    "restricted-label",
    "subnet-too-large",
    "subnet-too-small",
    "unsupported-version",
    "unusable-address",
}


def problems(data: Any) -> list[str]:
    made = schema()
    shape = {word: part for word, part in made.items() if word not in {"$schema", "$defs", "title"}}
    return list(wrong(data, shape, made["$defs"]))


def read(path: Path) -> Any:
    """Read a file as an editor does, without minding what only YAML 1.1 or 1.2 means."""
    return yaml.safe_load(path.read_text())


def test_the_example_and_all_defaults_fit_the_schema() -> None:
    example = ROOT / "inventory.example.yaml"
    assert problems(read(example)) == []
    assert problems(yaml.safe_load(dump(load(example)))) == []


def properties(made: Any) -> Iterator[tuple[str, Any]]:
    for name, shape in {**made["$defs"], "Inventory": made}.items():
        yield from ((f"{name}.{key}", value) for key, value in shape["properties"].items())


def test_every_setting_is_described_and_no_description_is_left_over() -> None:
    found = dict(properties(schema()))
    assert [name for name, value in found.items() if not value["description"]] == []
    assert MEANINGS.keys() <= found.keys()


def test_the_schema_is_data_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


def test_examples_name_the_schema_as_editors_read_it() -> None:
    line = "# yaml-language-server: $schema=inventory.schema.json"
    assert line in (ROOT / "docs" / "inventory.md").read_text()


@pytest.mark.parametrize("case", CASES)
def test_the_schema_refuses_each_mistake_that_a_schema_can_tell(case: str) -> None:
    kind = case.partition("--")[0]
    if kind in IN_YAML_ITSELF or "kubeadm" in case:  # kubeadm's documents have no schema
        return
    untold = kind in ACROSS_THE_FILE or case in BY_MEANING or kind in BY_MEANING
    assert untold != bool(problems(read(GOLDEN / f"{case}.yaml")))
