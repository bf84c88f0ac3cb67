"""Which CORS matchers take pages that are not the platform's own."""

from __future__ import annotations

from typing import Any

import pytest

from policies.origins import foreign_origin


@pytest.mark.parametrize(
    ("matcher", "taken"),
    [
        ("*", "https://evil.example"),
        ({"exact": "*"}, "https://evil.example"),
        ({"exact": "null"}, "null"),
        ({"prefix": ""}, ".evil.example"),
        ({"prefix": "http"}, "http.evil.example"),
        ({"prefix": "https://"}, "https://.evil.example"),
        ({"prefix": "https://app.shop.example"}, "https://app.shop.example.evil.example"),
        ({"regex": ".*"}, "null"),
        ({"regex": "(.*)"}, "null"),
        ({"regex": "^.*$"}, "null"),
        ({"regex": "https?://.*"}, "https://evil.example:8443"),
        ({"regex": "https://.*"}, "https://evil.example:8443"),
        ({"regex": "http.*"}, "https://evil.example:8443"),
        ({"regex": "[a-z]+://.*"}, "https://evil.example:8443"),
        ({"regex": r"https://[^/]+"}, "https://evil.example:8443"),
        ({"regex": r".*\.com"}, "https://evil.com"),
        ({"regex": r"https://app\.shop\.example|.*"}, "null"),
        ({"regex": r"https://app\.shop\.example.*"}, "https://app.shop.example.evil.example"),
        (
            {"regex": r"https?://(app|www)\.shop\.example.*"},
            "https://app.shop.example.evil.example",
        ),
        ({"regex": r"https://.*shop\.example"}, "https://evilshop.example"),
        ({"regex": r".*shop\.example"}, "https://evilshop.example"),
        ({"regex": "https://app.shop.example"}, "https://appxshop.example"),
        ({"regex": "("}, "( is no regular expression"),
    ],
)
def test_matchers_that_take_foreign_pages(matcher: Any, taken: str) -> None:
    assert foreign_origin(matcher) == taken


@pytest.mark.parametrize(
    "matcher",
    [
        "https://app.shop.example",
        {"exact": "https://app.shop.example"},
        {"prefix": "https://app.shop.example:"},
        {"regex": r"https://app\.shop\.example"},
        {"regex": r"^https://(app|www)\.shop\.example$"},
        {"regex": r"https://.*\.shop\.example"},
        {"regex": r"https?://[a-z0-9-]+\.shop\.example(:\d+)?"},
        {"regex": r"https://([^.]+\.)*shop\.example"},
        {"regex": r"https://([a-z]+\.)?shop\.example"},
        {},
    ],
)
def test_matchers_for_pages_of_ones_own(matcher: Any) -> None:
    assert foreign_origin(matcher) is None
