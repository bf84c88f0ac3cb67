"""No secret leaves an object for a comment, and a change of one still shows."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from diff.as_json import as_json
from diff.compare import diff_objects
from diff.markdown import markdown
from diff.redaction import AFTER, BEFORE, SAME, redacted
from tests.unit.semantics.mesh_objects import item

SECRET = "hunter2-hunter2"
OTHER = "correct-horse-battery"


def _object(kind: str = "ConfigMap", **body: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x", "namespace": "n"}, **body}


HOLDERS: dict[str, Any] = {
    "a Secret's data": lambda s: _object("Secret", data={"anything": s}),
    "a Secret's stringData": lambda s: _object("Secret", stringData={"a.yaml": f"a: {s}\nb: 1"}),
    "an environment variable": lambda s: _object(
        "Deployment",
        spec={
            "template": {
                "spec": {"containers": [{"env": [{"name": "REDIS_AUTH_TOKEN", "value": s}]}]}
            }
        },
    ),
    "an environment variable called KEY": lambda s: _object(
        "Deployment", spec={"containers": [{"env": [{"name": "SIGNING_KEY", "value": s}]}]}
    ),
    "Helm values": lambda s: _object(values={"global": {"redis": {"password": s}}}),
    "camel case": lambda s: _object(values={"redisPassword": s, "clientSecret": s, "apiKey": s}),
    "a password that is a number": lambda s: _object(
        values={"password": int.from_bytes(s.encode())}
    ),
    "a configuration file": lambda s: _object(data={"app.conf": f"user = me\npassword = {s}\n"}),
    "a YAML file in a ConfigMap": lambda s: _object(data={"a.yaml": f"auth:\n  token: '{s}'\n"}),
    "a JSON file in a ConfigMap": lambda s: _object(data={"a.json": f'{{"api_key": "{s}"}}'}),
    "an address": lambda s: _object(data={"url": f"redis://user:{s}@redis:6379/0"}),
    "a bearer header": lambda s: _object(data={"header": f"Authorization: Bearer {s}"}),
    "a header that is set": lambda s: _object(spec={"set": {"authorization": s}}),
    "a header that is matched": lambda s: _object(spec={"headers": {"x-api-key": {"exact": s}}}),
    "a header that a policy compares": lambda s: _object(
        spec={"when": [{"key": "request.headers[x-auth-token]", "values": [s, "b"]}]}
    ),
    "a private key": lambda s: _object(
        data={"k": f"-----BEGIN EC PRIVATE KEY-----\n{s}\n-----END EC PRIVATE KEY-----"}
    ),
}


def _shown(value: Any) -> str:
    return yaml.safe_dump(value)


def _plain(name: str, secret: str) -> str:
    return str(int.from_bytes(secret.encode())) if "number" in name else secret


@pytest.mark.parametrize("name", HOLDERS)
def test_a_changed_secret_shows_as_changed_only(name: str) -> None:
    old, new = HOLDERS[name](SECRET), HOLDERS[name](OTHER)
    left, right = redacted(old, new)
    assert _plain(name, SECRET) not in _shown(left)
    assert _plain(name, OTHER) not in _shown(right)
    assert BEFORE in _shown(left)
    assert AFTER in _shown(right)


@pytest.mark.parametrize("name", HOLDERS)
def test_an_unchanged_secret_is_the_same_on_both_sides(name: str) -> None:
    left, right = redacted(HOLDERS[name](SECRET), HOLDERS[name](SECRET))
    assert left == right
    assert SAME in _shown(left)
    assert _plain(name, SECRET) not in _shown(left)


@pytest.mark.parametrize("name", HOLDERS)
@pytest.mark.parametrize("form", [lambda d: markdown(d, "prod"), as_json], ids=["markdown", "json"])
def test_no_form_of_a_difference_shows_it(name: str, form: Any) -> None:
    for old, new in ((SECRET, OTHER), (None, SECRET), (SECRET, None)):
        before = [HOLDERS[name](old)] if old else []
        after = [HOLDERS[name](new)] if new else []
        text = form(diff_objects(before, after))
        for secret in (old, new):
            assert secret is None or _plain(name, secret) not in text


@pytest.mark.parametrize("form", [lambda d: markdown(d, "prod"), as_json], ids=["markdown", "json"])
def test_no_section_shows_a_secret_either(form: Any) -> None:
    def objects(secret: str) -> list[dict[str, Any]]:
        headers = {"request": {"set": {"authorization": f"Bearer {secret}", "x-api-key": secret}}}
        route = {"route": [{"destination": {"host": "web"}}], "headers": headers}
        match = {"when": [{"key": "request.headers[x-api-key]", "values": [secret]}]}
        tags = [{"customTags": {"vendor": {"literal": {"value": f"token={secret}"}}}}]
        return [
            item("VirtualService", "v", {"hosts": ["a"], "http": [route]}),
            item("AuthorizationPolicy", "p", {"rules": [match]}),
            item("Telemetry", "t", {"tracing": tags}),
        ]

    diff = diff_objects(objects(SECRET), objects(OTHER))
    assert [s.key for s in diff.sections if s.changes] == ["access", "routes", "telemetry"]
    for secret in (SECRET, OTHER):
        assert secret not in form(diff)


@pytest.mark.parametrize(
    "value",
    [
        {"credentialName": "voiceassistant-tls-cert"},
        {"secretName": "redis", "tokenAudience": "istio-ca"},
        {"forwardOriginalToken": True},
        {"token_bucket": {"max_tokens": 10, "tokens_per_fill": 5}},
        {"maxTokens": 100},
        {"key": "request.auth.claims[role]", "values": ["admin"]},
        {
            "env": [
                {"name": "REDIS_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "r", "key": "p"}}}
            ]
        },
        {"log": {"token_count": "%DYNAMIC_METADATA(a:b)%"}},
        {"password": "${REDIS_PASSWORD}"},
        {"jwksUri": "https://identity.example/.well-known/jwks.json"},
    ],
)
def test_what_is_no_secret_stays(value: dict[str, Any]) -> None:
    item = _object(spec=value)
    assert redacted(item, item) == (item, item)


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=12,
    )
)
def test_both_sides_of_anything_unchanged_stay_equal(value: Any) -> None:
    left, right = redacted({"spec": value}, {"spec": value})
    assert left == right
