from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootstrap import patching
from bootstrap.patching import Kind, Patch, PatchFailed

# Derandomized: these run in CI, where only a change of the code may change the result.
some = settings(deadline=None, derandomize=True, max_examples=200)

names = st.sampled_from(["a", "b", "c/d", "e~f", "0", ""])
scalars = st.booleans() | st.integers(0, 2) | st.sampled_from(["", "x", "1"])
values: Any = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
documents = st.dictionaries(names, values, max_size=3)
entries = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("pqrs")}, optional={"value": scalars, "image": scalars}),
    max_size=4,
    unique_by=lambda entry: str(entry["name"]),
)


def applied(kind: Kind, patch: Any, document: Any, target: str = "etcd") -> dict[str, Any]:
    return patching.apply(Patch("etcd.yaml", target, kind, patch), document)


def refused(kind: Kind, patch: Any, document: Any) -> PatchFailed:
    with pytest.raises(PatchFailed) as caught:
        applied(kind, patch, document)
    return caught.value


def pod(**spec: Any) -> dict[str, Any]:
    return {"spec": spec}


def pointers(value: Any, at: str = "") -> list[str]:
    """List the pointer of every value inside `value`."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, item in inner:
        here = f"{at}/{str(key).replace('~', '~0').replace('/', '~1')}"
        found += [here, *pointers(item, here)]
    return found


# --- JSON patch (RFC 6902)


@some
@given(documents, values, st.data())
def test_what_is_added_can_be_found_and_taken_out_again(document: Any, value: Any, data: st.DataObject) -> None:
    new = "/new" if not document else data.draw(st.sampled_from(["/new", *pointers(document)]))
    before = copy.deepcopy(document)
    with_it = applied("json", [{"op": "add", "path": new, "value": value}], document)
    assert applied("json", [{"op": "test", "path": new, "value": value}], with_it) == with_it
    assert document == before
    if new == "/new":
        assert applied("json", [{"op": "remove", "path": new}], with_it) == document


@some
@given(documents.filter(bool), values, st.data())
def test_replacing_is_removing_and_adding_and_moving_is_copying_and_removing(
    document: Any, value: Any, data: st.DataObject
) -> None:
    there = data.draw(st.sampled_from(pointers(document)))
    replaced = applied("json", [{"op": "replace", "path": there, "value": value}], document)
    both = [{"op": "remove", "path": there}, {"op": "add", "path": there, "value": value}]
    assert patching.equal(replaced, applied("json", both, document))
    moved = applied("json", [{"op": "move", "from": there, "path": "/moved"}], document)
    both = [{"op": "copy", "from": there, "path": "/moved"}, {"op": "remove", "path": there}]
    assert patching.equal(moved, applied("json", both, document))


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        ({"op": "remove", "path": "/spec/b"}, "there is no /spec/b"),
        ({"op": "replace", "path": "/x/y", "value": 1}, "there is no /x/y: x is missing"),
        ({"op": "add", "path": "/spec/a/b/c", "value": 1}, "there is no /spec/a/b/c: what should hold c is neither"),
        ({"op": "remove", "path": ""}, "the whole cannot be removed"),
        ({"op": "add", "path": "/spec/list/x", "value": 1}, "x is not the number of an entry of a list"),
        ({"op": "add", "path": "/spec/list/01", "value": 1}, "01 is not the number of an entry of a list"),
        ({"op": "move", "from": "/spec", "path": "/spec/a"}, "a value cannot be moved into itself"),
        ({"op": "replace", "path": "", "value": 1}, "it leaves no mapping behind"),
    ],
)
def test_an_operation_that_does_not_fit_says_why(operation: Any, what: str) -> None:
    failed = refused("json", [operation], {"spec": {"a": {"b": 1}, "list": [1]}})
    assert failed.what.startswith(what) or what in failed.what
    assert not failed.depends


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/list/1"},
        {"op": "add", "path": "/list/2", "value": 1},
        {"op": "test", "path": "/list/0", "value": True},
    ],
)
def test_entries_of_lists_and_tested_values_may_depend_on_the_machine(operation: Any) -> None:
    assert refused("json", [operation], {"list": [1]}).depends


# --- merge patch (RFC 7386)


@some
@given(documents, documents)
def test_a_merge_patch_can_turn_any_document_into_any_other(one: Any, other: Any) -> None:
    def patch(old: Any, new: Any) -> Any:
        if not isinstance(old, dict) or not isinstance(new, dict):
            return new
        gone = dict.fromkeys(old.keys() - new.keys())
        changed = {key: patch(old.get(key), value) for key, value in new.items()}
        # A mapping in the place of another kind of value is merged into nothing, which is the same.
        return {**gone, **changed}

    assert applied("merge", patch(one, other), one) == other


# --- strategic merge


@some
@given(entries, entries)
def test_entries_are_merged_by_their_key_and_a_second_time_changes_nothing(there: Any, given: Any) -> None:
    document, patch = pod(containers=there), pod(containers=given)
    before = copy.deepcopy((document, patch))
    once = applied("strategic", patch, document)
    assert (document, patch) == before
    assert applied("strategic", patch, once) == once
    expected = {entry["name"]: entry for entry in there}
    for entry in given:
        expected[entry["name"]] = {**expected.get(entry["name"], {}), **entry}
    made = once["spec"]["containers"]
    assert {entry["name"]: entry for entry in made} == expected
    assert len(made) == len(expected)
    order = [entry["name"] for entry in made if entry["name"] in {each["name"] for each in given}]
    assert order == [entry["name"] for entry in given]


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("containers", "name"),
        ("initContainers", "name"),
        ("volumes", "name"),
        ("imagePullSecrets", "name"),
        ("hostAliases", "ip"),
        ("topologySpreadConstraints", "topologyKey"),
    ],
)
def test_lists_of_a_pod_are_merged_by_the_keys_of_kubernetes(field: str, key: str) -> None:
    made = applied("strategic", pod(**{field: [{key: "b", "new": 1}]}), pod(**{field: [{key: "a"}, {key: "b"}]}))
    assert made["spec"][field] == [{key: "a"}, {key: "b", "new": 1}]


@pytest.mark.parametrize(
    ("field", "key"),
    [("env", "name"), ("ports", "containerPort"), ("volumeMounts", "mountPath"), ("volumeDevices", "devicePath")],
)
@pytest.mark.parametrize("target", ["etcd", patching.COREDNS])
def test_so_are_those_of_a_container(field: str, key: str, target: str) -> None:
    def within(*items: Any) -> Any:
        spec = pod(containers=[{"name": "etcd", field: list(items)}])
        return spec if target == "etcd" else {"spec": {"template": spec}}

    made = applied("strategic", within({key: 2, "new": 1}), within({key: 1}, {key: 2}), target)
    assert made == within({key: 1}, {key: 2, "new": 1})


def test_other_lists_are_replaced_and_null_takes_away() -> None:
    document = pod(tolerations=[{"key": "a"}], dnsPolicy="Default", securityContext={"runAsUser": 1, "runAsGroup": 2})
    patch = pod(tolerations=[{"key": "b"}], dnsPolicy=None, securityContext={"runAsUser": None, "new": {"x": None}})
    assert applied("strategic", patch, document) == pod(
        tolerations=[{"key": "b"}], securityContext={"runAsGroup": 2, "new": {}}
    )


def test_directives_delete_replace_retain_and_order() -> None:
    document = pod(
        volumes=[{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}, {"name": "c"}],
        containers=[{"name": "x", "command": ["x"]}],
        securityContext={"runAsUser": 1},
        affinity={"podAffinity": {}},
    )
    patch = {
        "spec": {
            "volumes": [
                {"name": "c", "$patch": "delete"},
                {"name": "a", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/a"}},
            ],
            "$setElementOrder/volumes": [{"name": "b"}, {"name": "a"}],
            "containers": [{"$patch": "replace"}, {"name": "y"}],
            "securityContext": {"$patch": "replace", "runAsGroup": 2},
            "affinity": {"$patch": "delete"},
        }
    }
    assert applied("strategic", patch, document) == pod(
        volumes=[{"name": "b", "emptyDir": {}}, {"name": "a", "hostPath": {"path": "/a"}}],
        containers=[{"name": "y"}],
        securityContext={"runAsGroup": 2},
        affinity={},
    )


@pytest.mark.parametrize(
    ("patch", "path", "what"),
    [
        (pod(containers=[{"image": "x"}]), ("spec", "containers", 0), "must have name, by which such entries"),
        (pod(containers=["x"]), ("spec", "containers", 0), "an entry of containers must be a mapping"),
        (pod(containers=[{"name": "x", "$patch": "remove"}]), ("spec", "containers", 0, "$patch"), "replace or delete"),
        (pod(hostNetwork={"$patch": "merge"}), ("spec", "hostNetwork"), "has nothing to work on here"),
        ({"$patch": "merge"}, ("$patch",), "$patch is replace or delete, not merge"),
        ({"$path": "replace"}, ("$path",), "there is no directive $path"),
        (pod(tolerations=[{"$patch": "replace"}]), ("spec", "tolerations", 0, "$patch"), "has nothing to work on"),
        ({"spec": {"$setElementOrder/tolerations": []}}, ("spec", "$setElementOrder/tolerations"), "not a list that"),
        ({"spec": {"$retainKeys": "x"}}, ("spec", "$retainKeys"), "a list must stand here"),
        (pod(volumes=[{"name": "a"}]), ("spec", "volumes"), "volumes has an entry that is no mapping"),
    ],
)
def test_a_strategic_patch_that_does_not_fit_says_where_and_why(patch: Any, path: Any, what: str) -> None:
    failed = refused("strategic", patch, pod(hostNetwork=True, tolerations=[], volumes=["x"]))
    assert failed.path[: len(path)] == path
    assert what in failed.what
