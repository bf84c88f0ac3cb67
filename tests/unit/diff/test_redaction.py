"""No secret leaves an object for a comment, and a change of one still shows."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import render
from diff.as_json import as_json
from diff.compare import diff_objects
from diff.markdown import markdown
from diff.redaction import AFTER, BEFORE, LAST_APPLIED, SAME, declared, redacted
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


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _jwt(secret: str) -> str:
    parts = ({"alg": "RS256", "typ": "JWT"}, {"sub": secret})
    return ".".join(_b64(json.dumps(p)).rstrip("=") for p in parts) + "." + "s" * 20


def _filter(**value: Any) -> dict[str, Any]:
    return _object("EnvoyFilter", spec={"configPatches": [{"patch": {"value": value}}]})


def _container(**fields: Any) -> dict[str, Any]:
    return _object("Deployment", spec={"template": {"spec": {"containers": [fields]}}})


def _file(text: str) -> dict[str, Any]:
    return _object(data={"file": text})


HOLDERS |= {
    "a Secret's annotations": lambda s: {
        **_object("Secret"),
        "metadata": {"name": "x", "namespace": "n", "annotations": {"note": s}},
    },
    "a Secret among Helm's objects": lambda s: _object(
        values={"extraObjects": [{"kind": "Secret", "data": {"a": s}, "metadata": {"name": "x"}}]}
    ),
    "text below a secret's name": lambda s: _filter(
        token_secret={"nested": {"inline_string": s}}, hmac_secret={"inlineBytes": s}
    ),
    "a private key of a listener": lambda s: _filter(
        tls_certificates=[{"private_key": {"inline_string": s}}]
    ),
    "a header that Envoy adds": lambda s: _filter(
        request_headers_to_add=[{"header": {"key": "Authorization", "value": s}}]
    ),
    "a header that Envoy compares": lambda s: _filter(
        headers=[
            {"name": "x-api-key", "string_match": {"exact": s}},
            {"name": "x-api-key", "exact_match": s},
        ]
    ),
    "a descriptor that is a key": lambda s: _filter(
        actions=[{"generic_key": {"descriptor_key": "api_key", "descriptor_value": s}}]
    ),
    "a cookie of a session": lambda s: _object(
        spec={"headers": {"request": {"set": {"cookie": f"theme=dark; session={s}; a=b"}}}}
    ),
    "Redis' own file": lambda s: _file(f"port 6379\nrequirepass {s}\nappendonly no\n"),
    "Redis' replica": lambda s: _file(f"masterauth {s}\n"),
    "a user of Redis": lambda s: _file(f"user reader on >{s} ~* +@read\n"),
    "an argument after its option": lambda s: _container(args=["--port", "1", "--password", s]),
    "an option of Redis": lambda s: _container(command=["redis-server", "--requirepass", s]),
    "a letter of redis-cli": lambda s: _container(command=["redis-cli", "-a", s, "ping"]),
    "an option with its value": lambda s: _container(args=[f"--api-key={s}"]),
    "a line for the shell": lambda s: _container(
        command=["sh", "-c", f"exec redis-server --requirepass {s} --port 1"]
    ),
    "another line for the shell": lambda s: _container(
        command=["sh", "-c", f"redis-cli -h redis -a {s} ping"]
    ),
    "a token by its looks": lambda s: _container(env=[{"name": "UPSTREAM", "value": _jwt(s)}]),
    "a value by its prefix": lambda s: _container(
        env=[{"name": "UPSTREAM", "value": f"sk-{s}-{s}"}]
    ),
    "credentials of a registry": lambda s: _file(
        json.dumps({"auths": {"r.example": {"username": "u", "auth": s}}})
    ),
    "a registry's file by its name": lambda s: _object(data={".dockerconfigjson": s}),
    "Redis' password in a chart": lambda s: _object(values={"redis": {"auth": s}}),
    "a chart's value with dots": lambda s: _object(
        spec={"set": [{"name": "redis.auth.password", "value": s}]}
    ),
    "an address with signs in the password": lambda s: _file(f"redis://me:{s}:a@b@redis:6379/0"),
    "an address without a user": lambda s: _file(f"url=redis://:{s}@redis:6379"),
    "an address that is a token": lambda s: _file(f"https://{s}{s}@git.example/x.git"),
    "a block of YAML": lambda s: _file(f"password: |\n  {s}\nport: 1\n"),
    "a password of several words": lambda s: _file(f'password = "{s} and more {s}"'),
    "JSON within JSON": lambda s: _file(json.dumps(json.dumps({"client_secret": s}))),
    "a parameter of an address": lambda s: _file(f"https://a.example/x?a=1&access_token={s}&b=2"),
    "basic credentials": lambda s: _file(f"authorization: Basic {_b64(s)}"),
    "a private key cut off": lambda s: _file(f"-----BEGIN PRIVATE KEY-----\n{s}\n"),
    "an encoded private key": lambda s: _file(
        _b64(f"-----BEGIN RSA PRIVATE KEY-----\n{s}\n-----END RSA PRIVATE KEY-----\n")
    ),
    "a hook of a chat": lambda s: _file(f"https://hooks.slack.com/services/T1/B2/{s}".replace("-", "/")),
    "a login file": lambda s: _file(f"machine a.example login me password {s}"),
}  # fmt: skip


HOLDERS |= {
    "a Secret in a file of YAML": lambda s: _file(
        f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\nstringData:\n  foo: {s}\n"
    ),
    "a Secret in a file of JSON": lambda s: _file(
        json.dumps({"kind": "Secret", "metadata": {"name": "a"}, "data": {"foo": s}})
    ),
    "a list of Secrets": lambda s: _object(
        "SecretList", items=[{"metadata": {"name": "a"}, "data": {"k": s}}]
    ),
    "what was applied, of an object within": lambda s: _object(
        values={"extraObjects": [{"metadata": {"annotations": {LAST_APPLIED: s}}}]}
    ),
    "a pair in a file": lambda s: _file(f"env:\n- name: API_TOKEN\n  value: {s}\n"),
    "a value on the next line": lambda s: _file(f"password:\n  {s}\n"),
    "a value with a tag": lambda s: _file(f"password: !!str {s}\n"),
    "a list in a file": lambda s: _file(f"passwords:\n- {s}\n- b\n"),
    "a key that is there twice": lambda s: _file(f"tokens:\n- {s}\ntokens:\n- {s}\n"),
    "a password with signs": lambda s: _file(f"password: a,&;{s}\n"),
    "a password with a quote": lambda s: _file(f'x: 1\npassword: "a\\"{s}"\n'),
    "a password after a letter with two bytes": lambda s: _file(f"name: é\npassword:\n  {s}\n"),
    "XML": lambda s: _file(f"<a><password>{s}</password></a>"),
    "a key of Ruby": lambda s: _file(f":password => '{s}'"),
    "Redis' quoted password": lambda s: _file(f'requirepass "{s}"\n'),
    "a second password of Redis": lambda s: _file(f"user a on >first >{s} ~*\n"),
    "Redis' sentinel": lambda s: _file(f"sentinel auth-pass mymaster {s}\n"),
    "Postgres' password file": lambda s: _file(f"db:5432:app:me:{s}\n"),
    "a password file of a web server": lambda s: _file(f"bob:$apr1${s}"),
    "redis-cli by its path": lambda s: _container(command=["/usr/bin/redis-cli", "-a", s]),
    "a command with its arguments apart": lambda s: _container(command=["redis-cli"], args=["-a", s]),
    "curl's user": lambda s: _container(command=["curl", "-u", f"me:{s}", "https://a"]),
    "curl's user in a shell": lambda s: _container(args=[f"curl -s -u me:{s} https://a"]),
    "a quoted option in a shell": lambda s: _container(args=[f'x --password "{s}" -v']),
    "a quoted letter in a shell": lambda s: _container(args=[f"redis-cli -a '{s}' ping"]),
    "a variable in a shell": lambda s: _container(args=[f"REDISCLI_AUTH={s} redis-cli ping"]),
    "mysql's letter": lambda s: _container(args=[f"mysql -uroot -p{s} db"]),
    "a cookie with a token": lambda s: _object(spec={"set": {"cookie": f"a=b; jwt={s}"}}),
    "a cookie of a session that is matched": lambda s: _object(
        spec={"headers": {"cookie": {"regex": f"^(.*;)?user_session={s}(;.*)?$"}}}
    ),
    "tokens under names of their own": lambda s: _object(values={"tokens": {"alice": s}}),
    "secrets under names of their own": lambda s: _object(values={"secret": {"foo": s}}),
    "keys of clients": lambda s: _filter(credentials=[{"key": s, "client": "bob"}]),
    "variables of a chart": lambda s: _object(values={"env": {"REDIS_AUTH": s}}),
    "names with an ending": lambda s: _object(
        values={"password1": s, "tokenValue": s, "passwordHash": s, "secretKeyBase": s}
    ),
    "a secret key as JSON": lambda s: _file(json.dumps({"keys": [{"kty": "oct", "k": s}]})),
    "a header that Envoy compares by pattern": lambda s: _filter(
        headers=[{"name": "x-api-key", "safe_regex_match": {"regex": s}}]
    ),
    "a header with another scheme": lambda s: _file(f"Authorization: ApiKey {s}"),
    "a bearer's token of letters": lambda s: _file(f"send Bearer abcdefgh{s}"),
    "a header that nginx sets": lambda s: _file(f"proxy_set_header X-Api-Key {s};"),
    "a header that Lua sets": lambda s: _file(f'h:headers():add("x-api-key", "{s}")'),
    "a user that is an address": lambda s: _file(f"smtp://me@example.com:{s}@mail:25"),
    "an address without a scheme": lambda s: _file(f"me:{s}@tcp(db:3306)/app"),
    "a signature in an address": lambda s: _file(f"https://a.example/x?sv=1&sig={s}"),
    "an encoded file": lambda s: _object(binaryData={"a": _b64(f"password: {s}\n")}),
    "a key after a certificate, encoded": lambda s: _file(
        _b64(f"-----BEGIN CERTIFICATE-----\nMIIBMIIB\n-----BEGIN PRIVATE KEY-----\n{s}\n")
    ),
}  # fmt: skip


def _shown(value: Any) -> str:
    return yaml.safe_dump(value, width=10**6)


def _plain(name: str, secret: str) -> str:
    """What of a secret would be seen where it is written otherwise."""
    written: dict[str, Any] = {
        "a password that is a number": lambda: str(int.from_bytes(secret.encode())),
        "a token by its looks": lambda: _b64(json.dumps({"sub": secret})).rstrip("="),
        "basic credentials": lambda: _b64(secret),
        "an encoded private key": lambda: _b64(f"-----BEGIN RSA PRIVATE KEY-----\n{secret}")[38:48],
        "an encoded file": lambda: _b64(f"password: {secret}\n"),
        "a key after a certificate, encoded": lambda: _b64(
            f"-----BEGIN CERTIFICATE-----\nMIIBMIIB\n-----BEGIN PRIVATE KEY-----\n{secret}\n"
        ),
        "a hook of a chat": lambda: secret.replace("-", "/"),
    }
    return str(written[name]()) if name in written else secret


@pytest.mark.parametrize("name", HOLDERS)
def test_what_holds_a_secret_would_show_it(name: str) -> None:
    assert _plain(name, SECRET) in _shown(HOLDERS[name](SECRET)).replace("\n", "")


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
        {"name": "x-token-count", "value": "int(response.headers['x'])"},
        {"key": "request.auth.claims[role]", "values": ["admin"]},
        {
            "env": [
                {"name": "REDIS_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "r", "key": "p"}}}
            ]
        },
        {"log": {"token_count": "%DYNAMIC_METADATA(a:b)%"}},
        {"password": "${REDIS_PASSWORD}"},
        {"jwksUri": "https://identity.example/.well-known/jwks.json"},
        {"imagePullSecrets": [{"name": "registry"}], "automountServiceAccountToken": False},
        {"fromHeaders": [{"name": "authorization", "prefix": "Bearer "}]},
        {"volumes": [{"name": "a", "secret": {"secretName": "tls"}}]},
        {"corsPolicy": {"allowHeaders": ["authorization", "x-api-key"]}},
        {"actions": [{"request_headers": {"header_name": "authorization", "descriptor_key": "a"}}]},
        {"descriptors": [{"key": "path", "value": "/x"}]},
        {"headers": {"cookie": {"regex": "^(.*?;)?\\s*(ab-group=b)(;.*)?$"}}},
        {"tls_certificate_sds_secret_configs": [{"name": "kubernetes://tls", "sds_config": {}}]},
        {"env": [{"name": "REDIS_PASSWORD", "value": "$(REDIS_PASSWORD)"}]},
        {"args": ["--requirepass", "$(REDIS_PASSWORD)", "--port", "6379"]},
        {"command": ["sh", "-c", 'redis-server --requirepass "$REDIS_PASSWORD"']},
        {"url": "redis://redis:6379/0", "mail": "mailto:team@example.com"},
        {"text": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"},
        {"env": [{"name": "REDIS_PASSWORD_FILE", "value": "run/password"}]},
        {"env": [{"name": "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL", "value": "20m"}]},
        {"tls": {"privateKey": "/etc/certs/key.pem"}, "redis": {"existingSecret": "redis"}},
        {"data": [{"secretKey": "password", "remoteRef": {"key": "prod/redis"}}]},
        {"sources": [{"serviceAccountToken": {"path": "t", "audience": "istio-ca"}}]},
        {"token_secret": {"name": "token", "sds_config": {"path": "/etc/x"}}},
        {"customTags": {"token": {"header": {"name": "x-token-id"}}}},
        {"lua": 'local token = headers:get("authorization")\nif token == nil then return end'},
        {"text": "Basic authentication of callers, who log in with login and password"},
        {"jwks": json.dumps({"keys": [{"kty": "RSA", "kid": "a", "n": "abc", "e": "AQAB"}]})},
        {"caBundle": base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END").decode()},
        {"lua": "local t = request_handle:headers():get('authorization')"},
    ],
)
def test_what_is_no_secret_stays(value: dict[str, Any]) -> None:
    item = _object(spec=value)
    assert redacted(item, item) == (item, item)


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_of_our_own_stacks_everything_can_be_read(stack: str) -> None:
    """They hold no secret: those of a deployment are made there."""
    for each in render.objects(stack):
        assert redacted(each, each) == (each, each)


def test_what_the_cluster_writes_is_no_change() -> None:
    written = {
        "annotations": {LAST_APPLIED: json.dumps(_object("Secret", data={"a": SECRET}))},
        "managedFields": [{"manager": "kubectl"}],
        "resourceVersion": "7",
        "generation": 3,
        "uid": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    plain = _object(spec={"a": 1})
    live = {**plain, "metadata": {**plain["metadata"], **written}, "status": {"ready": True}}
    assert declared(live) == plain
    assert declared(plain) is plain
    assert diff_objects([live], [plain]).empty
    noted = {**plain, "metadata": {**plain["metadata"], "annotations": {"a": "b"}}}
    live["metadata"]["annotations"]["a"] = "b"
    assert declared(live) == noted
    shown = as_json(diff_objects([], [live]))
    assert SECRET not in shown
    assert "resourceVersion" not in shown


def test_a_long_text_takes_no_longer_than_it_is_long() -> None:
    """Patterns that try every length at every place would take minutes."""
    for text in (
        "a" * 200_000,
        "a-" * 100_000,
        "token" * 40_000,
        "x://" * 50_000,
        " user" * 40_000,
        "password: |\n" * 10_000,
        "[" * 200_000 + "password: x",
        "- " * 50_000 + "password: x",
    ):
        assert isinstance(redacted(_file(text), None)[0], dict)


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
