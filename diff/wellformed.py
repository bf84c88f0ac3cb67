"""Objects whose fields have the types that the cluster would insist on, or a clear refusal.

Only types are looked at: values and fields of other versions of Istio than ours are none of a
comparison's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from components.istio.authorization_policy import AuthorizationPolicySpec
from components.istio.destination_rule import DestinationRuleSpec
from components.istio.envoy_filter import EnvoyFilterSpec
from components.istio.gateway import GatewaySpec
from components.istio.peer_authentication import PeerAuthenticationSpec
from components.istio.proxy_config import ProxyConfigSpec
from components.istio.request_authentication import RequestAuthenticationSpec
from components.istio.service_entry import ServiceEntrySpec
from components.istio.sidecar import SidecarSpec
from components.istio.telemetry import TelemetrySpec
from components.istio.virtual_service import VirtualServiceSpec
from components.wire import Message
from diff.facts import Object, label
from model.invalid import InvalidInput
from semantics.identity import kind_of

_SPECS: Mapping[str, type[Message]] = {
    spec.__name__.removesuffix("Spec"): spec
    for spec in (
        AuthorizationPolicySpec,
        DestinationRuleSpec,
        EnvoyFilterSpec,
        GatewaySpec,
        PeerAuthenticationSpec,
        ProxyConfigSpec,
        RequestAuthenticationSpec,
        ServiceEntrySpec,
        SidecarSpec,
        TelemetrySpec,
        VirtualServiceSpec,
    )
}
_WORDS = {str: "text", list: "a list", dict: "a mapping", bool: "a truth value", type(None): "null"}


def check(objects: Iterable[Object]) -> None:
    """Looks at the types of everything that is read of Istio's objects.

    Raises:
        InvalidInput: a field has another type than Istio's API gives it; the first one is named.
    """
    for item in objects:
        spec = item.get("spec")
        if spec is not None and not isinstance(spec, Mapping):
            raise InvalidInput(f"{label(item)}: spec is {_word(spec)}, a mapping is meant")
        kind = _SPECS.get(kind_of(item))
        if kind is None or not spec:
            continue
        try:
            kind.model_validate(spec)
        except ValidationError as error:
            for problem in error.errors(include_url=False):
                # YAML's reader makes a number of a key like 8080, which JSON writes as text.
                if problem["type"].endswith("_type") and problem["loc"][-1:] != ("[key]",):
                    # The value itself may be a secret.
                    parts = (f"[{p}]" if isinstance(p, int) else f".{p}" for p in problem["loc"])
                    where, found = "".join(parts), _word(problem["input"])
                    raise InvalidInput(
                        f"{label(item)}: spec{where} is {found}: {problem['msg']}"
                    ) from error


def _word(value: object) -> str:
    return _WORDS.get(type(value), "a number")
