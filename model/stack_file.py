"""Stack files: from `Pulumi.<stack>.yaml`, or the engine's config, to `Settings`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import ValidationError

from model.access import Catalogue
from model.invalid import UNKNOWN_KEY, InvalidInput, describe
from model.service import Service
from model.settings import Override, Settings

PROJECT = "voicemesh"
_STACK = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
"""Names of stacks: labels and objects of the cluster have them in theirs."""
_OTHERS = ("kubernetes", "pulumi", "random")
"""Of whom else a stack file may have settings: the engine and the stack's providers."""
_UNREADABLE = (ValueError, LookupError, AttributeError, TypeError, RecursionError)
ROOT = Path(__file__).resolve().parent.parent
"""Root of the project: where `Pulumi.yaml` and the stack files lie."""


def stacks(root: Path = ROOT) -> tuple[str, ...]:
    """Names of the stacks that have a file in the project."""
    return tuple(sorted(path.name.split(".")[1] for path in root.glob("Pulumi.*.yaml")))


def load(stack: str, catalogue: Catalogue, root: Path = ROOT) -> Settings:
    """The settings of one stack, checked against the catalogue.

    Raises:
        InvalidInput: the file is missing, is no YAML, or says something that is not allowed.
    """
    path = root / f"Pulumi.{stack}.yaml"
    if not _STACK.fullmatch(stack) or not path.is_file():
        known = ", ".join(stacks(root)) or "none"
        raise InvalidInput(f"{path.name}: there is no such stack file (stacks: {known})")
    return parse(read(path), path.name, catalogue)


def read(path: Path) -> dict[str, Any]:
    """The `voicemesh:` keys of a stack file, without that prefix.

    Raises:
        InvalidInput: the file is no YAML, repeats a key, or is not a mapping under `config`.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506
    except yaml.YAMLError as error:
        raise InvalidInput(_no_yaml(path.name, error)) from None
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{path.name}: not UTF-8: {error.reason} at byte {error.start}"
        ) from None
    except _UNREADABLE as error:
        # PyYAML lets these out: of `!!int foo`, of the 45th of March, of a thousand brackets.
        raise InvalidInput(f"{path.name}: a value can't be read: {_said(error)}") from None
    config = content.get("config") if isinstance(content, dict) else None
    if not isinstance(config, dict):
        raise InvalidInput(
            f"{path.name}: there is no mapping `config` with {PROJECT}:... keys in it"
        )
    raw: dict[str, Any] = {}
    problems = []
    for key, value in config.items():
        namespace, _, name = str(key).partition(":")
        if not name:
            raise InvalidInput(
                f"{path.name}: {key}: write the key with its project, {PROJECT}:{key}"
            )
        if namespace == PROJECT:
            raw[name] = value
        elif namespace not in _OTHERS:
            problems.append(
                f"{path.name}: {key}: nothing here reads the configuration of {namespace!r}"
                f" (allowed: {', '.join((PROJECT, *_OTHERS))})"
            )
    if problems:
        raise InvalidInput(*problems)
    return raw


def _said(error: BaseException) -> str:
    return str(error).partition(";")[0] or type(error).__name__


def _no_yaml(name: str, error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark):
        context = f"{error.context}: " if error.context else ""
        return f"{name}:{mark.line + 1}:{mark.column + 1}: {context}{error.problem}"
    return f"{name}: {' '.join(str(error).split())}"


def parse(raw: Mapping[str, Any], source: str, catalogue: Catalogue) -> Settings:
    """Settings from the values of the `voicemesh:` keys.

    Args:
        raw: value by key, the key without `voicemesh:`.
        source: name of the file for messages.
        catalogue: what services, subsets and paths in the settings are held against.

    Raises:
        InvalidInput: naming file and key, what was found and what is allowed.
    """
    problems = [
        f"{source}: {PROJECT}:{key}: the value is encrypted; no key of this project is secret,"
        " set it in clear"
        for key, value in raw.items()
        if isinstance(value, dict) and set(value) == {"secure"}
    ]
    if problems:
        raise InvalidInput(*problems)
    try:
        # By way of JSON: that is what the engine hands over, and where a list is a list and a
        # number a number, so that nothing needs to be converted.
        text = json.dumps(raw, default=str)
    except _UNREADABLE as error:
        raise InvalidInput(
            f"{source}: a value or a key is no plain data: {_said(error)}; keys are texts, and no"
            " value stands within itself"
        ) from None
    try:
        settings = Settings.model_validate_json(text, by_name=False, by_alias=True)
    except ValidationError as error:
        raise InvalidInput(
            *(_line(source, key, _with_alternatives(key, text)) for key, text in describe(error))
        ) from None
    if mismatches := list(_mismatches(settings, catalogue)):
        raise InvalidInput(*(_line(source, key, text) for key, text in mismatches))
    return settings


def adapted(catalogue: Catalogue, settings: Settings) -> Catalogue:
    """The catalogue with the environment's overrides applied."""
    services = []
    for service in catalogue.services:
        override = settings.services.get(service.name, Override())
        changes = {
            field: value
            for field in ("timeout", "retries", "pool")
            if (value := getattr(override, field)) is not None
        }
        if override.stream_timeout is not None:
            changes |= _streams(service, override.stream_timeout)
        services.append(Service.model_validate({**dict(service), **changes}))
    return Catalogue(services=tuple(services))


def _streams(service: Service, timeout: str) -> dict[str, Any]:
    """The service's routes and WebSockets, those that stream with another timeout."""
    routes = tuple(
        route.model_copy(update={"stream_timeout": timeout}) if route.streaming else route
        for route in service.routes
    )
    sockets = (one.model_copy(update={"timeout": timeout}) for one in service.websockets)
    return {"routes": routes, "websockets": tuple(sockets)}


def _has_streams(service: Service) -> bool:
    return service.websocket or any(route.streaming for route in service.routes)


def _mismatches(settings: Settings, catalogue: Catalogue) -> list[tuple[str, str]]:
    """What the settings name that the catalogue does not have."""
    known = ", ".join(catalogue.names)
    found: list[tuple[str, str]] = []
    for key in ("traffic", "services"):
        for name in getattr(settings, key):
            if name not in catalogue.names:
                found.append((f"{key}.{name}", f"{name!r} is not a service (services: {known})"))
    for name, split in settings.traffic.items():
        if name not in catalogue.names:
            continue
        subsets = [subset.name for subset in catalogue.service(name).subsets]
        if not subsets:
            found.append((f"traffic.{name}", f"{name} has no subsets to split its traffic over"))
            continue
        named = [(f"weights.{subset}", subset) for subset in split.weights]
        named += [(f"cohorts.{i}.subset", cohort.subset) for i, cohort in enumerate(split.cohorts)]
        for key, subset in named:
            if subset not in subsets:
                found.append(
                    (
                        f"traffic.{name}.{key}",
                        f"{subset!r} is not a subset of {name} (subsets: {', '.join(subsets)})",
                    )
                )
    routes = {route.path: route for _, route in catalogue.exposures}
    limits = settings.rate_limits
    for key, named_paths in (
        ("routes", list(limits.routes)),
        ("closedOnFailure", list(limits.closed_on_failure)),
    ):
        for path in named_paths:
            route = routes.get(path)
            if route is None:
                problem = f"{path} is not a route of the catalogue (routes: {', '.join(routes)})"
            elif route.access == "public" and (key == "routes" or not route.login):
                problem = f"{path} is public: there is no tenant to count its requests by"
            else:
                continue
            found.append((f"rateLimits.{key}.{path}", problem))
    for name, override in settings.services.items():
        if name in catalogue.names:
            if override.stream_timeout and not _has_streams(catalogue.service(name)):
                problem = f"{name} has neither WebSockets nor streaming routes"
                found.append((f"services.{name}.streamTimeout", problem))
            one = settings.model_copy(update={"services": {name: settings.services[name]}})
            try:
                adapted(catalogue, one)
            except ValidationError as error:
                found += [
                    (f"services.{name}.{key}".rstrip("."), text) for key, text in describe(error)
                ]
    return found


def _with_alternatives(key: str, text: str) -> str:
    if text != UNKNOWN_KEY:
        return text
    model: Any = Settings
    for part in key.split(".")[:-1]:
        model = _below(model, part)
    allowed = [field.alias or name for name, field in getattr(model, "model_fields", {}).items()]
    return f"{text} (allowed: {', '.join(sorted(allowed))})" if allowed else text


def _below(annotation: Any, key: str) -> Any:
    """The type of what stands under a key, or at an index, of a value of this type."""
    if fields := getattr(annotation, "model_fields", None):
        return next((f.annotation for n, f in fields.items() if key == (f.alias or n)), None)
    for option in (annotation, *get_args(annotation)):
        if get_origin(option) is dict:
            return get_args(option)[1]
        if get_origin(option) is tuple:
            return get_args(option)[0]
        if option is not annotation and (found := _below(option, key)):
            return found
    return None


def _line(source: str, key: str, text: str) -> str:
    shown = key if key and key.isprintable() else repr(key)
    return f"{source}: {PROJECT}:{shown}: {text}"


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, but a key that stands twice is an error, not the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, dict | list):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be plain text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
