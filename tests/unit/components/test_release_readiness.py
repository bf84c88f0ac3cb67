"""The engine's graph of the control plane: nothing builds on istiod before its webhooks answer."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

import mesh
from components.component import MeshComponent
from model import stack_file
from model.catalogue import catalogue

CATALOGUE = catalogue()
VALIDATORS = {"istiod-default-validator", "istio-validator-istio-system"}


class Recorder(pulumi.runtime.Mocks):
    """Remembers every registered resource's inputs."""

    def __init__(self) -> None:
        self.inputs: dict[tuple[str, str], dict[str, Any]] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.inputs[args.typ, args.name] = dict(args.inputs)
        return f"{args.name}-id", dict(args.inputs)

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], None]:
        return {}, None


@pytest.fixture
def recorder() -> Recorder:
    mocks = Recorder()
    pulumi.runtime.set_mocks(mocks, project="voicemesh", stack="prod", preview=False)
    return mocks


def control_plane() -> tuple[type[MeshComponent[Any]], Any]:
    settings = stack_file.load("prod", CATALOGUE)
    (part,) = [p for p in mesh.parts("prod", settings, CATALOGUE) if p.name == "control-plane"]
    return part.component, part.args


def test_webhooks_are_awaited_by_their_ca(recorder: Recorder) -> None:
    component, args = control_plane()

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def register() -> pulumi.Output[Any]:
        return component("control-plane", args).urn

    register()
    kind = "kubernetes:admissionregistration.k8s.io/v1:ValidatingWebhookConfigurationPatch"
    patches = {name: inputs for (typ, name), inputs in recorder.inputs.items() if typ == kind}
    assert set(patches) == VALIDATORS
    for name, inputs in patches.items():
        assert inputs["metadata"] == {
            "name": name,
            "annotations": {"pulumi.com/waitFor": "jsonpath={.webhooks[0].clientConfig.caBundle}"},
        }
