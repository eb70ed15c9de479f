from __future__ import annotations

from typing import Any

import pytest

from bootstrap.adopting.settings import overlay
from bootstrap.render import merge


@pytest.mark.parametrize(
    ("theirs", "ours", "expected"),
    [
        ({"a": 1, "b": {"c": "x"}}, {"a": 1, "b": {"c": "x"}}, {}),
        ({"a": 2, "b": {"c": "y", "d": [1]}}, {"a": 1, "b": {"c": "x"}}, {"a": 2, "b": {"c": "y", "d": [1]}}),
        ({"syncFrequency": "0s", "memorySwap": {}, "logging": {"verbosity": 0}}, {}, {}),
        ({"maxPerCore": 0, "failSwapOn": False}, {}, {"maxPerCore": 0, "failSwapOn": False}),
        ({"resolvConf": "", "tcpCloseWaitTimeout": "0s"}, {}, {"resolvConf": "", "tcpCloseWaitTimeout": "0s"}),
        ({"tcpCloseWaitTimeout": None}, {}, {}),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": None}, "d": None}),
    ],
)
def test_what_was_set_is_found_and_makes_one_of_the_other(
    theirs: dict[str, Any], ours: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert overlay(theirs, ours) == expected
    assert overlay(theirs, merge(ours, expected)) == {}
