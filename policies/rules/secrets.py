"""No object holds a password: what is written into one is read by whoever reads the diff."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policies.mesh_config import RELEASE_KINDS
from policies.policy import Config, Finding, Object, Severity, object_policy
from policies.workloads import PODS, containers
from semantics.credentials import BY_LOOKS, encoded_private_keys
from semantics.pods import makes_pods

_LAST_WORDS = {"password", "passwd", "passphrase", "pwd", "pass", "token", "requirepass"}
_ENDINGS = (
    "password",
    "passwd",
    "apikey",
    "privatekey",
    "clientsecret",
    "secretkey",
    "accesskey",
    "authtoken",
    "accesstoken",
    "masterauth",
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SHAPES = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    *BY_LOOKS,
    re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@]*:(?![$<{%])[^\s/@]{4,}@"),
)
"""Private keys, tokens of well-known issuers, JSON web tokens, addresses with a password."""
_SETTING = re.compile(r"""(?m)^[\s-]*["']?([\w.-]+)["']?[ \t]*[:=][ \t]*["']?([^\s"'#,{}\[\]]+)""")
_FLAG = re.compile(r"^-{1,2}([\w-]+)(?:=(.*))?$")
_ELSEWHERE = re.compile(r"^(\$[({\w]|\{\{|<|%|/|\./|file:|ref\+|vault:|(true|false|null|none)$)")
"""A reference to a value, a file or a placeholder, and so no value."""


@object_policy(
    "no-secret-in-clear",
    "EnvoyFilter",
    "ConfigMap",
    *RELEASE_KINDS,
    PODS,
    title="No password stands in an object",
    severity=Severity.CRITICAL,
    text="Neither Helm values, EnvoyFilters and ConfigMaps nor containers' environment and "
    "arguments hold a password, key or token as text: it would stand in every diff, in Git and in "
    "the engine's state.",
    remedy="Refer to a Secret by name.",
    url="https://kubernetes.io/docs/concepts/configuration/secret/",
)
def no_secret_in_clear(item: Object, _: Config) -> Iterator[Finding]:
    """Searches for keys that name a credential and have a text, and for texts of such a shape."""
    for path, key, value in _leaves(item):
        if not isinstance(value, str):
            continue
        if _names_credential(key) and _is_value(value):
            yield Finding(item, path, f"{key} is given as text")
        elif any(shape.search(value) for shape in _SHAPES) or any(encoded_private_keys(value)):
            yield Finding(item, path, f"{key or 'it'} holds a credential as text")


def _leaves(item: Object) -> Iterator[tuple[str, str, Any]]:
    """(path, key, value) of what may be a credential."""
    if makes_pods(item):
        for path, container in containers(item):
            for number, variable in enumerate(container.get("env") or ()):
                yield (
                    f"{path}.env[{number}].value",
                    str(variable.get("name")),
                    variable.get("value"),
                )
            for part in ("command", "args"):
                yield from _arguments(f"{path}.{part}", list(container.get(part) or ()))
        return
    for part in ("spec", "data"):
        for path, key, value in _below(part, item.get(part) or {}):
            yield path, key, value
            if item.get("kind") == "ConfigMap" and isinstance(value, str):
                # A key holds a whole file.
                for name, setting in _SETTING.findall(value):
                    yield path, name, setting


def _arguments(path: str, arguments: list[Any]) -> Iterator[tuple[str, str, Any]]:
    for index, argument in enumerate(arguments):
        flag = _FLAG.match(str(argument))
        if flag is None:
            yield f"{path}[{index}]", "", argument
            continue
        value = flag.group(2)
        if value is None and index + 1 < len(arguments):
            value = arguments[index + 1]
        yield f"{path}[{index}]", flag.group(1), value


def _below(path: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield f"{path}.{key}", str(key), entry
            yield from _below(f"{path}.{key}", entry)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, entry in enumerate(value):
            yield from _below(f"{path}[{index}]", entry)


def _names_credential(key: str) -> bool:
    words = [word.lower() for word in _WORD.findall(key)]
    return bool(words) and (words[-1] in _LAST_WORDS or "".join(words).endswith(_ENDINGS))


def _is_value(text: str) -> bool:
    return len(text.strip()) >= 4 and not _ELSEWHERE.match(text.strip())
