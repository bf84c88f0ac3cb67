"""The Pulumi program run under the SDK's mocks: what it registers, with which dependencies."""

from __future__ import annotations

import json
import runpy
from collections.abc import Mapping
from typing import Any, NamedTuple

import pulumi
import yaml
from pulumi.runtime import mocks, set_all_config, set_mocks

from model.stack_file import PROJECT, ROOT

PROGRAM = ROOT / "__main__.py"


class Registered(NamedTuple):
    """One resource as the engine is asked to register it."""

    urn: str
    type: str
    name: str
    inputs: dict[str, Any]
    parent: str
    dependencies: frozenset[str]
    """URNs of the resources that must be there first."""
    ignore_changes: tuple[str, ...]
    custom: bool
    secret: tuple[str, ...]
    """Outputs that stay secret."""


class _Answers(mocks.Mocks):
    """A provider that takes whatever it is given."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        state = dict(args.inputs)
        if args.typ == "random:index/randomPassword:RandomPassword":
            state["result"] = "the password"
        return f"{args.name}-id", state

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], None]:
        raise AssertionError(f"the program asks the provider at run time: {args.token}")


class _Engine(mocks.MockMonitor):
    """The mocked engine, which also keeps what the mocks leave out."""

    def __init__(self) -> None:
        super().__init__(_Answers())
        self.registered: list[Registered] = []
        self.outputs: dict[str, dict[str, Any]] = {}

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - gRPC's name
        response = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        if request.type == "pulumi:pulumi:Stack":
            return response
        inputs = pulumi.runtime.rpc.deserialize_properties(request.object, keep_unknowns=True)
        self.registered.append(
            Registered(
                response.urn,
                request.type,
                request.name,
                inputs,
                request.parent,
                frozenset(request.dependencies),
                tuple(request.ignoreChanges),
                request.custom,
                tuple(request.additionalSecretOutputs),
            )
        )
        return response

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802 - gRPC's name
        self.outputs[request.urn] = pulumi.runtime.rpc.deserialize_properties(request.outputs)
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]


class Run(NamedTuple):
    """What one run of the program registered."""

    registered: tuple[Registered, ...]
    outputs: dict[str, dict[str, Any]]
    """What components said of themselves, by URN."""
    exports: dict[str, Any]
    """The stack's own outputs."""


def engine_config(stack: str) -> dict[str, str]:
    """The config as the engine hands it over: project defaults below the stack's, all as text."""
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))
    given = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))["config"]
    values = {k: v["default"] for k, v in project["config"].items() if "default" in v} | given
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}


def run(stack: str, config: Mapping[str, str] | None = None) -> Run:
    """Runs `__main__.py` as stack `stack`; errors of the program are raised."""
    engine = _Engine()
    set_mocks(_Answers(), project=PROJECT, stack=stack, preview=False, monitor=engine)
    set_all_config(dict(config if config is not None else engine_config(stack)))

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> None:
        runpy.run_path(str(PROGRAM))

    program()
    root: Any = pulumi.runtime.get_root_resource()
    return Run(tuple(engine.registered), engine.outputs, dict(root.outputs))
