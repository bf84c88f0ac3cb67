"""EnvoyFilter values from typed Envoy messages.

Istio passes an EnvoyFilter's patch value on without looking at its field names: a misspelt field
is dropped in silence by istiod. So values are never spelt by hand here; they are made of
envoy-data-plane's messages, which refuse unknown fields and wrong types, and turned into
protobuf's JSON form: field names as in Envoy's documentation (snake_case), enums by name,
durations as `1.500s`, wrappers as plain values, packed messages with their `@type`.

What was not set is left out. A plain scalar that was set to its default (False, 0, "") is left out
too, as protobuf does not tell the two apart; where Envoy does (wrappers, oneofs, messages), the
value is kept: `max_request_bytes: 0`, `disabled: false`, `remote_address: {}`.

Envoy's messages take about half a second to import (400 classes, each a pydantic dataclass), so
builders import them inside their functions and this module does not import them at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import betterproto2
    from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
    from envoy_data_plane.google.protobuf import Any as Packed


def fields(message: betterproto2.Message) -> dict[str, Any]:
    """The message as JSON, without its type: for patches of clusters, listeners, routes.

    Raises ValidationError where a value that was assigned after construction is of a wrong type.
    """
    from betterproto2 import Casing

    converted: dict[str, Any] = message.to_dict(casing=Casing.SNAKE)
    return converted


def typed_config(message: betterproto2.Message) -> dict[str, Any]:
    """The message as JSON with its `@type`: what `typed_config` and per-route configs hold."""
    return {"@type": type_url(message), **fields(message)}


def type_url(message: betterproto2.Message) -> str:
    """`type.googleapis.com/` and the message's full protobuf name."""
    from envoy_data_plane.message_pool import default_message_pool

    url: str = default_message_pool.type_to_url[type(message)]
    return url


def named(name: str, message: betterproto2.Message) -> dict[str, Any]:
    """A filter, extension or transport socket: its name and its typed config, as JSON."""
    return {"name": name, "typed_config": typed_config(message)}


def packed(message: betterproto2.Message) -> Packed:
    """The message as protobuf's Any, to go into another message's typed_config field."""
    from envoy_data_plane.google.protobuf import Any as Packed

    return Packed.pack(message)


def extension(name: str, message: betterproto2.Message) -> TypedExtensionConfig:
    """An extension inside another message, such as a compressor's library."""
    from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig

    return TypedExtensionConfig(name=name, typed_config=packed(message))
