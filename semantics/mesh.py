"""What the policies of a mesh mean depends on its meshConfig."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from model.invalid import InvalidInput
from semantics.identity import Object, name_of, namespace_of
from semantics.paths import NORMALIZATIONS, Normalization


@dataclass(frozen=True)
class Mesh:
    """The parts of meshConfig that authorization depends on."""

    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    path_normalization: Normalization = "DEFAULT"
    authorizers: frozenset[str] | None = None
    """Names of external authorizers in extensionProviders; None: meshConfig is not known."""


def mesh_config(item: Object) -> Mapping[str, Any] | None:
    """meshConfig as istiod's ConfigMap (`istio`, `istio-REVISION`) holds it; None of any other.

    Raises:
        InvalidInput: it is no YAML mapping.
    """
    text = (item.get("data") or {}).get("mesh")
    if name_of(item).split("-")[0] != "istio" or not isinstance(text, str):
        return None
    try:
        config = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        config = " ".join(str(error).split())
    if not isinstance(config, Mapping):
        where = f"ConfigMap {namespace_of(item)}/{name_of(item)}"
        raise InvalidInput(f"{where}: data.mesh must be a YAML mapping of meshConfig: {config}")
    return config


def mesh_of(config_maps: Iterable[Object]) -> Mesh:
    """meshConfig out of istiod's ConfigMap `istio`; Istio's defaults where there is none."""
    for item in config_maps:
        config = mesh_config(item)
        if config is None:
            continue
        how = (config.get("pathNormalization") or {}).get("normalization", "DEFAULT")
        return Mesh(
            root_namespace=config.get("rootNamespace") or namespace_of(item),
            trust_domain=config.get("trustDomain") or "cluster.local",
            trust_domain_aliases=tuple(config.get("trustDomainAliases") or ()),
            path_normalization=how if how in NORMALIZATIONS else "DEFAULT",
            authorizers=frozenset(
                provider["name"]
                for provider in config.get("extensionProviders") or ()
                if "envoyExtAuthzHttp" in provider or "envoyExtAuthzGrpc" in provider
            ),
        )
    return Mesh()
