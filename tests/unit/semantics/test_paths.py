from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semantics.paths import Normalization, normalize


@pytest.mark.parametrize(
    ("path", "how", "expected"),
    [
        ("/a//b", "NONE", "/a//b"),
        ("/a//b", "BASE", "/a//b"),
        ("/a/./b/../c", "DEFAULT", "/a/c"),
        ("/a\\b", "BASE", "/a/b"),
        ("/%61dmin", "BASE", "/admin"),
        ("/a%2Fb", "BASE", "/a%2Fb"),
        ("/a//b", "MERGE_SLASHES", "/a/b"),
        ("/a%2fb", "MERGE_SLASHES", "/a%2fb"),
        ("/a%2fb", "DECODE_AND_MERGE_SLASHES", "/a/b"),
        ("/a%5C..%2Fb", "DECODE_AND_MERGE_SLASHES", "/b"),
        ("/%2e%2e/a", "DECODE_AND_MERGE_SLASHES", "/a"),
        ("/a/..", "BASE", "/"),
        ("/a/.", "BASE", "/a/"),
        ("/../..", "BASE", "/"),
        ("/a?b=//%2f..", "DECODE_AND_MERGE_SLASHES", "/a?b=//%2f.."),
        ("/a%2561", "DECODE_AND_MERGE_SLASHES", "/a%2561"),
    ],
)
def test_normalization(path: str, how: Normalization, expected: str) -> None:
    assert normalize(path, how) == expected


@given(st.text(alphabet="/.ab%2eEfF5cC\\", max_size=20).map(lambda t: "/" + t))
def test_what_is_decoded_and_merged_has_no_way_around_a_prefix(path: str) -> None:
    done = normalize(path, "DECODE_AND_MERGE_SLASHES")
    assert done.startswith("/")
    assert "//" not in done
    assert "\\" not in done
    assert not {".", ".."} & set(done.split("/"))
