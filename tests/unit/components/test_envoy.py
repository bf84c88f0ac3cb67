"""Envoy messages as JSON: exact form, back again without loss, and accepted by Envoy itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import betterproto2
import pytest
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    DataSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    KeepaliveSettings,
    Metadata,
    RuntimeFractionalPercent,
)
from envoy_data_plane.envoy.config.ratelimit.v3 import RateLimitServiceConfig
from envoy_data_plane.envoy.config.route.v3 import RateLimit as RouteRateLimit
from envoy_data_plane.envoy.config.route.v3 import (
    RateLimitAction,
    RateLimitActionGenericKey,
    RateLimitActionMetaData,
    RateLimitActionMetaDataSource,
    RateLimitActionRemoteAddress,
    RateLimitActionRequestHeaders,
    RouteAction,
)
from envoy_data_plane.envoy.extensions.common.ratelimit.v3 import (
    LocalRateLimitDescriptor,
    RateLimitDescriptorEntry,
    XRateLimitHeadersRfcVersion,
)
from envoy_data_plane.envoy.extensions.compression.gzip.compressor.v3 import (
    Gzip,
    GzipCompressionLevel,
)
from envoy_data_plane.envoy.extensions.filters.http.buffer.v3 import Buffer, BufferPerRoute
from envoy_data_plane.envoy.extensions.filters.http.compressor.v3 import (
    Compressor,
    CompressorCommonDirectionConfig,
    CompressorPerRoute,
    CompressorResponseDirectionConfig,
)
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutation,
    HeaderMutationPerRoute,
    Mutations,
)
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit.v3 import LocalRateLimit
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.http.ratelimit.v3 import (
    RateLimit,
    RateLimitPerRoute,
    RateLimitPerRouteVhRateLimitsOptions,
    RateLimitXRateLimitHeadersRfcVersion,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions as UpstreamHttpProtocolOptions,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.metadata.v3 import MetadataKey, MetadataKeyPathSegment
from envoy_data_plane.envoy.type.v3 import (
    FractionalPercent,
    FractionalPercentDenominatorType,
    HttpStatus,
    StatusCode,
    TokenBucket,
)
from envoy_data_plane.google.protobuf import Struct
from pydantic import ValidationError

from components.envoy import extension, fields, named, type_url, typed_config

HTTP = "type.googleapis.com/envoy.extensions.filters.http"


def tokens(maximum: int, fill: timedelta) -> TokenBucket:
    return TokenBucket(max_tokens=maximum, tokens_per_fill=maximum, fill_interval=fill)


def percent(numerator: int) -> RuntimeFractionalPercent:
    return RuntimeFractionalPercent(
        default_value=FractionalPercent(
            numerator=numerator, denominator=FractionalPercentDenominatorType.TEN_THOUSAND
        )
    )


def overwrite(name: str, value: str) -> Mutation:
    return Mutation(
        append=HeaderValueOption(
            header=HeaderValue(key=name, value=value),
            append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
        )
    )


RATE_LIMIT = RateLimit(
    domain="tenants",
    timeout=timedelta(milliseconds=250),
    failure_mode_deny=True,
    enable_x_ratelimit_headers=RateLimitXRateLimitHeadersRfcVersion.DRAFT_VERSION_03,
    rate_limited_status=HttpStatus(code=StatusCode.TooManyRequests),
    rate_limit_service=RateLimitServiceConfig(
        grpc_service=GrpcService(
            envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name="rate-limit", authority="rate-limit.infra")
        ),
        transport_api_version=ApiVersion.V3,
    ),
)
LOCAL_RATE_LIMIT = LocalRateLimit(
    stat_prefix="per_address",
    token_bucket=tokens(1000, timedelta(seconds=1)),
    filter_enabled=percent(10_000),
    filter_enforced=percent(2_550),
    rate_limits=[
        RouteRateLimit(
            actions=[RateLimitAction(remote_address=RateLimitActionRemoteAddress())],
        )
    ],
    descriptors=[
        LocalRateLimitDescriptor(
            entries=[RateLimitDescriptorEntry(key="remote_address")],
            token_bucket=tokens(5, timedelta(minutes=1)),
        )
    ],
    enable_x_ratelimit_headers=XRateLimitHeadersRfcVersion.DRAFT_VERSION_03,
    always_consume_default_token_bucket=False,
    max_dynamic_descriptors=10_000,
)
COMPRESSOR = Compressor(
    response_direction_config=CompressorResponseDirectionConfig(
        common_config=CompressorCommonDirectionConfig(
            min_content_length=1024, content_type=["application/json", "text/html"]
        ),
        disable_on_etag_header=True,
    ),
    compressor_library=extension(
        "gzip",
        Gzip(memory_level=5, window_bits=12, compression_level=GzipCompressionLevel.BEST_SPEED),
    ),
)
HEADERS = HeaderMutation(
    mutations=Mutations(
        request_mutations=[Mutation(remove="x-internal")],
        response_mutations=[overwrite("x-frame-options", "DENY"), Mutation(remove="server")],
    )
)
LUA = Lua(
    default_source_code=DataSource(
        inline_string="function envoy_on_request(handle)\n  handle:logInfo('\"ä\"')\nend\n"
    )
)
ACTIONS = RouteRateLimit(
    actions=[
        RateLimitAction(
            request_headers=RateLimitActionRequestHeaders(
                header_name="x-tenant-id", descriptor_key="tenant", skip_if_absent=True
            )
        ),
        RateLimitAction(
            metadata=RateLimitActionMetaData(
                descriptor_key="user",
                metadata_key=MetadataKey(
                    key="envoy.filters.http.jwt_authn",
                    path=[
                        MetadataKeyPathSegment(key="payload"),
                        MetadataKeyPathSegment(key="sub"),
                    ],
                ),
                source=RateLimitActionMetaDataSource.DYNAMIC,
                default_value="none",
            )
        ),
        RateLimitAction(remote_address=RateLimitActionRemoteAddress()),
        RateLimitAction(generic_key=RateLimitActionGenericKey(descriptor_value="login")),
    ],
)
STAGED_ACTIONS = RouteRateLimit(  # Envoy takes a stage on virtual hosts and routes only
    stage=0,
    actions=[RateLimitAction(generic_key=RateLimitActionGenericKey(descriptor_value="all"))],
)
UPSTREAM_HTTP2 = UpstreamHttpProtocolOptions(
    explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(
        http2_protocol_options=Http2ProtocolOptions()
    )
)
CONNECTION_MANAGER = HttpConnectionManager(
    stream_idle_timeout=timedelta(0),
    request_timeout=timedelta(minutes=5),
    common_http_protocol_options=HttpProtocolOptions(idle_timeout=timedelta(hours=1)),
    http2_protocol_options=Http2ProtocolOptions(
        max_concurrent_streams=100,
        initial_stream_window_size=65_536,
        initial_connection_window_size=1_048_576,
        connection_keepalive=KeepaliveSettings(
            interval=timedelta(seconds=30), timeout=timedelta(milliseconds=1500)
        ),
    ),
    generate_request_id=False,
    always_set_request_id_in_response=True,
)

EXACT: dict[str, tuple[betterproto2.Message, dict[str, Any]]] = {
    "rate limit": (
        RATE_LIMIT,
        {
            "@type": f"{HTTP}.ratelimit.v3.RateLimit",
            "domain": "tenants",
            "timeout": "0.250s",
            "failure_mode_deny": True,
            "rate_limit_service": {
                "grpc_service": {
                    "envoy_grpc": {"cluster_name": "rate-limit", "authority": "rate-limit.infra"}
                },
                "transport_api_version": "V3",
            },
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
            "rate_limited_status": {"code": "TooManyRequests"},
        },
    ),
    "rate limit per route": (
        RateLimitPerRoute(
            vh_rate_limits=RateLimitPerRouteVhRateLimitsOptions.INCLUDE, rate_limits=[ACTIONS]
        ),
        {
            "@type": f"{HTTP}.ratelimit.v3.RateLimitPerRoute",
            "vh_rate_limits": "INCLUDE",
            "rate_limits": [
                {
                    "actions": [
                        {
                            "request_headers": {
                                "header_name": "x-tenant-id",
                                "descriptor_key": "tenant",
                                "skip_if_absent": True,
                            }
                        },
                        {
                            "metadata": {
                                "descriptor_key": "user",
                                "metadata_key": {
                                    "key": "envoy.filters.http.jwt_authn",
                                    "path": [{"key": "payload"}, {"key": "sub"}],
                                },
                                "default_value": "none",
                                # source is DYNAMIC, the enum's default: left out
                            }
                        },
                        {"remote_address": {}},
                        {"generic_key": {"descriptor_value": "login"}},
                    ],
                }
            ],
        },
    ),
    "stage 0 is a wrapper's value": (
        STAGED_ACTIONS,
        {
            "@type": "type.googleapis.com/envoy.config.route.v3.RateLimit",
            "stage": 0,
            "actions": [{"generic_key": {"descriptor_value": "all"}}],
        },
    ),
    "local rate limit": (
        LOCAL_RATE_LIMIT,
        {
            "@type": f"{HTTP}.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "per_address",
            "token_bucket": {"max_tokens": 1000, "tokens_per_fill": 1000, "fill_interval": "1s"},
            "filter_enabled": {
                "default_value": {"numerator": 10_000, "denominator": "TEN_THOUSAND"}
            },
            "filter_enforced": {
                "default_value": {"numerator": 2_550, "denominator": "TEN_THOUSAND"}
            },
            "descriptors": [
                {
                    "entries": [{"key": "remote_address"}],
                    "token_bucket": {
                        "max_tokens": 5,
                        "tokens_per_fill": 5,
                        "fill_interval": "60s",
                    },
                }
            ],
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
            "always_consume_default_token_bucket": False,
            "rate_limits": [{"actions": [{"remote_address": {}}]}],
            "max_dynamic_descriptors": 10_000,
        },
    ),
    "compressor": (
        COMPRESSOR,
        {
            "@type": f"{HTTP}.compressor.v3.Compressor",
            "compressor_library": {
                "name": "gzip",
                "typed_config": {
                    "@type": "type.googleapis.com/"
                    "envoy.extensions.compression.gzip.compressor.v3.Gzip",
                    "memory_level": 5,
                    "compression_level": "BEST_SPEED",
                    "window_bits": 12,
                },
            },
            "response_direction_config": {
                "common_config": {
                    "min_content_length": 1024,
                    "content_type": ["application/json", "text/html"],
                },
                "disable_on_etag_header": True,
            },
        },
    ),
    "compressor off on a route": (
        CompressorPerRoute(disabled=True),
        {"@type": f"{HTTP}.compressor.v3.CompressorPerRoute", "disabled": True},
    ),
    "buffer": (
        Buffer(max_request_bytes=0),
        {"@type": f"{HTTP}.buffer.v3.Buffer", "max_request_bytes": 0},
    ),
    "buffer with another limit": (
        BufferPerRoute(buffer=Buffer(max_request_bytes=2**32 - 1)),
        {
            "@type": f"{HTTP}.buffer.v3.BufferPerRoute",
            "buffer": {"max_request_bytes": 4_294_967_295},
        },
    ),
    "buffer not off": (
        BufferPerRoute(disabled=False),
        {"@type": f"{HTTP}.buffer.v3.BufferPerRoute", "disabled": False},
    ),
    "headers": (
        HEADERS,
        {
            "@type": f"{HTTP}.header_mutation.v3.HeaderMutation",
            "mutations": {
                "request_mutations": [{"remove": "x-internal"}],
                "response_mutations": [
                    {
                        "append": {
                            "header": {"key": "x-frame-options", "value": "DENY"},
                            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                        }
                    },
                    {"remove": "server"},
                ],
            },
        },
    ),
    "headers per route": (
        HeaderMutationPerRoute(mutations=Mutations(request_mutations=[Mutation(remove="x")])),
        {
            "@type": f"{HTTP}.header_mutation.v3.HeaderMutationPerRoute",
            "mutations": {"request_mutations": [{"remove": "x"}]},
        },
    ),
    "part of the connection manager": (
        CONNECTION_MANAGER,
        {
            "@type": "type.googleapis.com/envoy.extensions.filters.network"
            ".http_connection_manager.v3.HttpConnectionManager",
            "common_http_protocol_options": {"idle_timeout": "3600s"},
            "http2_protocol_options": {
                "max_concurrent_streams": 100,
                "initial_stream_window_size": 65_536,
                "initial_connection_window_size": 1_048_576,
                "connection_keepalive": {"interval": "30s", "timeout": "1.500s"},
            },
            "stream_idle_timeout": "0s",
            "request_timeout": "300s",
            "generate_request_id": False,
            "always_set_request_id_in_response": True,
        },
    ),
    "HTTP/2 to a cluster": (
        UPSTREAM_HTTP2,
        {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        },
    ),
    "script": (
        LUA,
        {
            "@type": f"{HTTP}.lua.v3.Lua",
            "default_source_code": {
                "inline_string": "function envoy_on_request(handle)\n"
                "  handle:logInfo('\"ä\"')\nend\n"
            },
        },
    ),
    "free-form metadata": (
        Metadata(
            filter_metadata={"a": Struct.from_dict({"CamelKey": [None, True, "1", {"snake_": {}}]})}
        ),
        {
            "@type": "type.googleapis.com/envoy.config.core.v3.Metadata",
            "filter_metadata": {"a": {"CamelKey": [None, True, "1", {"snake_": {}}]}},
        },
    ),
}


@pytest.mark.parametrize("case", EXACT)
def test_json_form(case: str) -> None:
    message, expected = EXACT[case]
    assert json.dumps(typed_config(message)) == json.dumps(expected)


@pytest.mark.parametrize("case", EXACT)
def test_nothing_is_lost_on_the_way(case: str) -> None:
    message, _ = EXACT[case]
    back = type(message).from_dict(json.loads(json.dumps(fields(message))))
    assert bytes(back) == bytes(message)
    assert back == message


def test_parts() -> None:
    assert type_url(Router()) == f"{HTTP}.router.v3.Router"
    assert named("router", Router()) == {
        "name": "router",
        "typed_config": {"@type": f"{HTTP}.router.v3.Router"},
    }
    assert fields(RouteAction(timeout=timedelta(0))) == {"timeout": "0s"}


@pytest.mark.parametrize(
    ("message", "values", "said"),
    [
        (RateLimit, {"dommain": "x"}, "dommain"),
        (RateLimit, {"domain": 5}, "domain"),
        (RateLimit, {"enable_x_ratelimit_headers": "DRAFT_3"}, "enable_x_ratelimit_headers"),
        (RateLimit, {"timeout": "soon"}, "timeout"),
        (Buffer, {"max_request_bytes": "many"}, "max_request_bytes"),
        (TokenBucket, {"max_tokens": -1}, "max_tokens"),
        (BufferPerRoute, {"disabled": True, "buffer": Buffer(max_request_bytes=1)}, "override"),
    ],
)
def test_misspelt_and_mistyped_fields_are_refused(
    message: type[betterproto2.Message], values: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        message(**values)


def envoy_accepts(bootstrap: dict[str, Any], file: Path) -> str:
    """Envoy's complaint; empty when it accepts the configuration."""
    file.write_text(json.dumps(bootstrap))
    envoy = Path(sys.executable).with_name("envoy")
    run = subprocess.run(
        [envoy, "--mode", "validate", "--log-level", "error", "-c", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return "" if run.returncode == 0 else run.stderr + run.stdout


def bootstrap_with(filters: Sequence[dict[str, Any]], route: dict[str, Any]) -> dict[str, Any]:
    manager = typed_config(CONNECTION_MANAGER) | {
        "stat_prefix": "test",
        "http_filters": [*filters, named("envoy.filters.http.router", Router())],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "rate_limits": [fields(STAGED_ACTIONS)],
                    "routes": [
                        {"match": {"prefix": "/"}, "route": {"cluster": "rate-limit"}, **route}
                    ],
                }
            ]
        },
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 8081}}
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                    "per_connection_buffer_limit_bytes": 32768,
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": manager,
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "rate-limit",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed_config(
                            UPSTREAM_HTTP2
                        )
                    },
                    "load_assignment": {
                        "cluster_name": "rate-limit",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
                    },
                }
            ],
        }
    }


def test_envoy_accepts_all_of_it(tmp_path: Path) -> None:
    per_route = {
        "envoy.filters.http.ratelimit": EXACT["rate limit per route"][0],
        "envoy.filters.http.buffer": BufferPerRoute(disabled=True),
        "envoy.filters.http.compressor": CompressorPerRoute(disabled=True),
        "envoy.filters.http.header_mutation": EXACT["headers per route"][0],
    }
    complaint = envoy_accepts(
        bootstrap_with(
            [
                named("envoy.filters.http.local_ratelimit", LOCAL_RATE_LIMIT),
                named("envoy.filters.http.lua", LUA),
                named("envoy.filters.http.ratelimit", RATE_LIMIT),
                named("envoy.filters.http.header_mutation", HEADERS),
                named("envoy.filters.http.buffer", Buffer(max_request_bytes=1024)),
                named("envoy.filters.http.compressor", COMPRESSOR),
            ],
            {
                "typed_per_filter_config": {
                    name: typed_config(config) for name, config in per_route.items()
                },
                "metadata": fields(EXACT["free-form metadata"][0]),
            },
        ),
        tmp_path / "bootstrap.json",
    )
    assert complaint == ""


def test_envoy_refuses_what_its_own_rules_forbid(tmp_path: Path) -> None:
    """The check above can fail: types hold, but a limit of 0 bytes breaks Envoy's constraint."""
    complaint = envoy_accepts(
        bootstrap_with([named("envoy.filters.http.buffer", Buffer(max_request_bytes=0))], {}),
        tmp_path / "bootstrap.json",
    )
    assert "MaxRequestBytes" in complaint
