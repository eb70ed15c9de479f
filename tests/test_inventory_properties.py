from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootstrap.inventory import InventoryError, Problem, dump, read
from bootstrap.spec import Inventory

# Derandomized: these run in CI, where only a change of the code may change the result.
few = settings(deadline=None, derandomize=True, max_examples=30, suppress_health_check=list(HealthCheck))
many = settings(few, max_examples=100)

names = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=("Cc", "Cs")), max_size=12)
durations = st.sampled_from(["1s", "5m", "1h30m", "8760h"])
arguments = st.lists(st.fixed_dictionaries({"name": names, "value": texts}), max_size=3)
variables = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(["A", "_b.c-9"])}, optional={"value": texts}), max_size=1
)
volumes = st.lists(
    st.fixed_dictionaries(
        {"name": names, "hostPath": st.just("/srv"), "mountPath": st.just("/mnt")}, optional={"readOnly": st.booleans()}
    ),
    max_size=1,
)
plain: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
clusters = st.fixed_dictionaries(
    {},
    optional={
        "name": names,
        "encryptionAlgorithm": st.sampled_from(["RSA-2048", "ECDSA-P256", "ECDSA-P384"]),
        "apiServer": st.fixed_dictionaries(
            {}, optional={"extraArgs": arguments, "extraEnvs": variables, "extraVolumes": volumes}
        ),
        "kubelet": st.fixed_dictionaries({"config": st.dictionaries(names, plain, max_size=3), "extraArgs": arguments}),
        "timeouts": st.fixed_dictionaries({"discovery": durations, "kubernetesAPICall": durations}),
        "ignorePreflightErrors": st.lists(texts, max_size=2),
    },
)
logins = st.fixed_dictionaries(
    {}, optional={"user": names, "port": st.integers(1, 65535), "identityFile": st.just("/id")}
)
taints = st.lists(st.fixed_dictionaries({"key": names, "effect": st.just("NoExecute")}), max_size=1)


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    hosts = [
        {
            "name": name,
            "address": f"192.0.2.{index + 1}",
            "roles": draw(st.sampled_from([["worker"], ["control-plane", "worker"]])) if index else ["control-plane"],
            "labels": draw(st.dictionaries(names, names, max_size=2)),
            "ssh": draw(logins),
            **draw(
                st.fixed_dictionaries(
                    {}, optional={"taints": taints, "nodeAddress": st.just(f"198.51.100.{index + 1}")}
                )
            ),
        }
        for index, name in enumerate(draw(st.lists(names, min_size=1, max_size=4, unique=True)))
    ]
    return Inventory.model_validate({"cluster": draw(clusters), "ssh": draw(logins), "hosts": hosts})


@few
@given(inventories())
def test_every_inventory_is_read_again_as_it_was_written(inventory: Inventory) -> None:
    assert read(dump(inventory).encode(), name="x", folder=Path("/")) == inventory


def accepted_or_refused(source: bytes) -> None:
    """Read, and look at every problem: nothing but `InventoryError` may come, each problem inside the file."""
    lines = source.decode("utf-8", "replace").splitlines() or [""]
    for problem in problems(source):
        assert 1 <= problem.line <= len(lines) + 1
        assert problem.column >= 1
        assert str(problem).startswith(f"x:{problem.line}:{problem.column}: ")
        assert "\n" not in str(problem)


def problems(source: bytes) -> tuple[Problem, ...]:
    try:
        read(source, name="x", folder=Path("/"))
    except InventoryError as refused:
        return refused.problems
    return ()


shapes = [
    "apiVersion",
    "kind",
    "cluster",
    "hosts",
    "ssh",
    "name",
    "networking",
    "podSubnet",
    "endpoint",
    "roles",
    "etcd",
]
keys = st.sampled_from(shapes) | texts
values = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.dates() | st.binary(max_size=5)
trees: Any = st.recursive(
    values, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=25
)


@many
@given(trees)
def test_no_yaml_of_any_shape_crashes_the_reader(tree: object) -> None:
    accepted_or_refused(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace"))


@many
@given(inventories(), st.data())
def test_no_damage_to_a_good_file_crashes_the_reader(inventory: Inventory, data: st.DataObject) -> None:
    source = dump(inventory).encode()
    start = data.draw(st.integers(0, len(source)))
    end = data.draw(st.integers(start, min(len(source), start + 20)))
    accepted_or_refused(source[:start] + data.draw(st.binary(max_size=6)) + source[end:])


@many
@given(inventories(), st.data())
def test_any_value_in_place_of_another_is_accepted_or_refused(inventory: Inventory, data: st.DataObject) -> None:
    tree = yaml.safe_load(dump(inventory))
    here: Any = tree
    while True:
        at = data.draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
        if not isinstance(here[at], dict | list) or not here[at] or data.draw(st.booleans()):
            break
        here = here[at]
    here[at] = data.draw(trees)
    accepted_or_refused(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace"))


@few
@given(inventories(), st.data())
def test_a_misspelt_key_is_found_where_it_stands(inventory: Inventory, data: st.DataObject) -> None:
    lines = dump(inventory).splitlines()
    spots = [index for index, line in enumerate(lines) if line.strip().startswith("address: 192")]
    spot = data.draw(st.sampled_from(spots))
    lines[spot] = lines[spot].replace("address", "adress")
    above = data.draw(st.lists(st.sampled_from(["", "# a comment", "   "]), max_size=5))
    (problem,) = problems("\n".join([*above, *lines]).encode())
    assert problem.line == len(above) + spot + 1
    assert lines[spot][problem.column - 1 :].startswith("adress")
