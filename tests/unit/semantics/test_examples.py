"""Texts that are made of a match are taken by it, and each alternative has one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semantics.examples import MAX_EXAMPLES, Unreadable, matches, of_expression, taken


@pytest.mark.parametrize(
    ("pattern", "some"),
    [
        ("/v[0-9]+/admin/.*", {"/v1/admin/", "/v1/admin/a"}),
        ("/(foo|bar)/x", {"/foo/x", "/bar/x"}),
        (r"^(.*?;)?\s*(group=b)(;.*)?$", {"group=b", "a;group=b", "group=b;a"}),
        ("GET|HEAD", {"GET", "HEAD"}),
        (r"/api/(v1|v2)/(users|admin)(/.*)?", {"/api/v2/users", "/api/v1/admin"}),
        (r"[^a1A/-]", {"0"}),
        (r"[^\d]\D\w\W\s\S", {"aaa- a"}),
        (r"[é-ü]", {"é"}),
        (r"x{3}y{0}(?!z)", {"xxx"}),
        ("", {""}),
    ],
)
def test_every_alternative_has_a_text(pattern: str, some: set[str]) -> None:
    assert some <= set(of_expression(pattern))


@pytest.mark.parametrize("pattern", ["/a(", r"\pL+", r"(a)\1", "a{2,1}", "(?=b)a", "*"])
def test_what_gives_no_text_is_said_to(pattern: str) -> None:
    with pytest.raises(Unreadable, match="expression"):
        of_expression(pattern)
    assert not matches({"regex": "("}, "(")


_ATOMS = st.sampled_from(["a", "/", "[0-9]", "[^/]", ".", r"\d", r"\w", "(?:b|c)", "(d)"])
_PIECES = st.tuples(_ATOMS, st.sampled_from(["", "*", "+", "?", "{2}", "{1,3}", "*?"]))


@given(st.lists(st.lists(_PIECES, max_size=5), min_size=1, max_size=3))
def test_expressions_take_the_texts_made_of_them(alternatives: list[list[tuple[str, str]]]) -> None:
    pattern = "|".join("".join(a + q for a, q in pieces) for pieces in alternatives)
    texts = of_expression(pattern)
    assert 0 < len(texts) <= MAX_EXAMPLES
    assert all(re.fullmatch(pattern, text) for text in texts)


@pytest.mark.parametrize(
    "match", [{"exact": "a"}, {"prefix": "a"}, {"regex": "a+"}, {}], ids="".join
)
def test_a_match_takes_the_texts_made_of_it(match: dict[str, str]) -> None:
    assert all(matches(match, text) for text in taken(match))
    assert not matches(match, None)


def test_letters_alike_where_the_case_is_ignored() -> None:
    assert matches({"prefix": "/API"}, "/api/x", ignore_case=True)
    assert not matches({"exact": "/API"}, "/api")


def test_what_is_no_match_is_refused() -> None:
    with pytest.raises(Unreadable, match="'/a' is no match"):
        taken("/a")
