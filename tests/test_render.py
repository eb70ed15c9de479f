from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Any

import jinja2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bootstrap.render import from_yaml, merge, quote, render, to_toml, to_yaml

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3)
)
TOML_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cs", "Cc"]), max_size=12)
TOML_SCALARS = st.booleans() | st.integers(-(2**53), 2**53) | TOML_TEXT
TOML_VALUES = st.recursive(
    TOML_SCALARS | st.lists(TOML_SCALARS, max_size=3), lambda below: st.dictionaries(TOML_TEXT, below, max_size=3)
)


@dataclass(frozen=True)
class Nothing:
    """A view without fields."""


def test_a_name_that_the_view_lacks_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("runtime/containerd.service.j2", Nothing())


@given(st.text())
def test_quoted_text_is_read_back_by_yaml(text: str) -> None:
    printable = "".join(character for character in text if character.isprintable())
    assert yaml.safe_load(quote(printable)) == printable


@given(VALUES)
def test_what_is_written_as_yaml_is_read_back(value: Any) -> None:
    read = list(yaml.safe_load_all(to_yaml(value)))
    assert read == [value]


def test_yaml_of_equal_values_is_equal_whatever_their_order() -> None:
    assert (
        to_yaml({"b": 1, "a": {"d": 2, "c": 3}})
        == to_yaml({"a": {"c": 3, "d": 2}, "b": 1})
        == "a:\n  c: 3\n  d: 2\nb: 1\n"
    )


def test_a_text_of_several_lines_is_a_block_that_can_be_read() -> None:
    assert to_yaml({"file": "one\ntwo\n"}) == "file: |\n  one\n  two\n"


def test_long_lines_are_not_folded() -> None:
    assert to_yaml({"a": "word " * 100 + "end"}).count("\n") == 1


def test_empty_documents_are_left_out() -> None:
    assert from_yaml("---\na: 1\n---\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]


@given(st.dictionaries(TOML_TEXT, TOML_VALUES, max_size=4))
def test_what_is_written_as_toml_is_read_back(table: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(table)) == table


def test_toml_has_no_null() -> None:
    with pytest.raises(TypeError, match="TOML has no form"):
        to_toml({"a": None})


def test_merge_goes_down_into_mappings_and_replaces_the_rest() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merge(base, {"a": {"c": [3]}, "e": {"f": 1}}) == {"a": {"b": 1, "c": [3]}, "d": 1, "e": {"f": 1}}


def test_merge_takes_away_what_is_given_as_null() -> None:
    assert merge({"a": 1, "b": {"c": 1, "d": 2}}, {"a": None, "b": {"c": None}}) == {"b": {"d": 2}}


def test_merge_leaves_both_as_they_are() -> None:
    base, over = {"a": {"b": 1}}, {"a": {"c": 2}}
    merge(base, over)
    assert (base, over) == ({"a": {"b": 1}}, {"a": {"c": 2}})
