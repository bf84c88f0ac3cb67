"""Filters of access logs, tried with every code of an answer."""

from __future__ import annotations

import pytest

from policies.cel import lets_through


@pytest.mark.parametrize(
    ("expression", "ok", "failed"),
    [
        ("true", True, True),
        ("false", False, False),
        ("!true", False, False),
        ("!(false)", True, True),
        ("response.code >= 400", False, True),
        ("400 <= response.code", False, True),
        ("response.code > 599", False, False),
        ("response.code == 200 || response.code == 500", True, True),
        ("response.code < 400 && response.code > 99", True, False),
        ("1 == 2", False, False),
        ("'a' == \"a\"", True, True),
        ("request.method == 'GET'", None, None),
        ("false && request.method == 'GET'", False, False),
        ("true || has(request.auth)", True, True),
        ("request.headers['x'] == 'y' && response.code >= 400", False, None),
        ("metadata.filter_metadata['a']['b'] == true", None, None),
        ("response.code in [200]", None, None),
        ("response.code >=", None, None),
        ("(true", None, None),
        ("true true", None, None),
        ("", None, None),
        ("1", None, None),
    ],
)
def test_filters(expression: str, ok: bool | None, failed: bool | None) -> None:
    assert lets_through(expression, 200) is ok
    assert lets_through(expression, 500) is failed
