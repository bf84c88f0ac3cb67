"""What a container gets to know: environment variables and arguments with their references."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from lab.volumes import NotYetError, Volumes, field

Object = Mapping[str, Any]

NODE_CORES = 1
"""What a container may see as its CPU limit at most, whatever it declares.

Proxies start a worker for each core they are given; forty of them share the cores of one machine.
"""
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_UNITS = {
    "": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6),
    "G": Decimal(10**9), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
}  # fmt: skip


def environment(pod: Object, container: Object, volumes: Volumes) -> dict[str, str]:
    """The variables of a container, in the order it declares them.

    Raises:
        NotYetError: a ConfigMap or Secret is missing that is not optional.
    """
    found: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        prefix = source.get("prefix", "")
        data = (
            volumes.config_map(ref["name"], ref.get("optional"))
            if (ref := source.get("configMapRef"))
            else volumes.secret(source["secretRef"]["name"], source["secretRef"].get("optional"))
        )
        found |= {prefix + key: value.decode() for key, value in data.items()}
    for variable in container.get("env") or ():
        if "valueFrom" in variable:
            value = _value(pod, container, variable["valueFrom"], volumes)
            if value is not None:
                found[variable["name"]] = value
        else:
            found[variable["name"]] = expand(variable.get("value", ""), found)
    return found


def expand(text: str, known: Mapping[str, str]) -> str:
    """`$(NAME)` replaced by the variable of that name; unknown names stay, `$$` is one dollar."""
    return _REFERENCE.sub(
        lambda m: "$" if m[0] == "$$" else known.get(m[1], m[0]),
        text,
    )


def _value(pod: Object, container: Object, source: Object, volumes: Volumes) -> str | None:
    if ref := source.get("fieldRef"):
        return field(pod, ref["fieldPath"])
    if ref := source.get("resourceFieldRef"):
        return resource(container, ref)
    if ref := source.get("configMapKeyRef"):
        data = volumes.config_map(ref["name"], ref.get("optional"))
    else:
        ref = source["secretKeyRef"]
        data = volumes.secret(ref["name"], ref.get("optional"))
    if ref["key"] in data:
        return data[ref["key"]].decode()
    if ref.get("optional"):
        return None
    raise NotYetError(f"key {ref['key']} of {ref['name']} is not there yet")


def resource(container: Object, ref: Object) -> str:
    """A request or limit in units of the divisor, rounded up."""
    kind, _, name = ref["resource"].partition(".")
    declared = (container.get("resources") or {}).get(kind, {}).get(name)
    amount = quantity(declared or ("1" if name == "cpu" else "128Mi"))
    if name == "cpu":
        amount = min(amount, Decimal(NODE_CORES))
    divisor = quantity(ref.get("divisor") or "1")
    return str(math.ceil(amount / (divisor or Decimal(1))))


def quantity(text: str | int) -> Decimal:
    """A Kubernetes quantity as a number."""
    number = re.match(r"[0-9.]+", str(text))
    if number is None:
        raise ValueError(f"{text!r} is not a quantity")
    return Decimal(number[0]) * _UNITS[str(text)[number.end() :]]


def command(
    entrypoint: Sequence[str], container: Object, variables: Mapping[str, str]
) -> list[str]:
    """What is run: the pod's command in the place of the image's entrypoint, then its arguments."""
    words = [*(container.get("command") or entrypoint), *(container.get("args") or ())]
    return [expand(word, variables) for word in words]
