"""Catalogues and splits as anybody could write them, for property-based tests."""

from __future__ import annotations

from hypothesis import strategies as st

from model.access import Catalogue
from model.service import GrpcService, Port, Route, Service, Subset, WebSocketRoute
from model.settings import Cohort, Split
from model.values import Method

_METHODS: tuple[tuple[Method, ...], ...] = ((), ("GET",), ("POST",), ("GET", "POST", "DELETE"))


@st.composite
def routes(draw: st.DrawFn, path: str) -> Route:
    public = draw(st.booleans())
    return Route(
        path=path,
        methods=draw(st.sampled_from(_METHODS)),
        access="public" if public else "token",
        public_reason="anybody may" if public else "",
        streaming=draw(st.booleans()),
        upload=draw(st.booleans()),
        login=draw(st.booleans()),
    )


@st.composite
def services(draw: st.DrawFn, name: str) -> Service:
    subsets = (Subset(name="v1", version="v1"), Subset(name="canary", version="canary"))
    divided = draw(st.booleans())
    return Service(
        name=name,
        ports=(Port(name="http", number=8080), Port(name="grpc", number=9000, protocol="grpc")),
        routes=tuple(
            draw(routes(f"/api/{name}/{index}")) for index in range(draw(st.integers(0, 2)))
        ),
        grpc=(GrpcService(name=f"{name}.v1.Service"),) if draw(st.booleans()) else (),
        websockets=(WebSocketRoute(path=f"/ws/{name}"),) if draw(st.booleans()) else (),
        timeout="10s",
        subsets=subsets if divided else (),
    )


@st.composite
def catalogues(draw: st.DrawFn) -> Catalogue:
    """Up to three services with whatever routes."""
    return Catalogue(
        services=tuple(draw(services(f"s{index}")) for index in range(draw(st.integers(1, 3))))
    )


@st.composite
def traffic(draw: st.DrawFn, catalogue: Catalogue) -> dict[str, Split]:
    """Splits, with and without cohorts, for some of the services that have subsets."""
    splits = {}
    for service in catalogue.services:
        divided = draw(st.booleans())
        if service.subsets and divided:
            cohorts = draw(st.lists(st.sampled_from(["v1", "canary"]), max_size=3))
            splits[service.name] = Split(
                weights={"v1": 100, "canary": 0},
                cohorts=tuple(
                    Cohort(subset=subset, header="x-cohort", value=f"c{index}")
                    for index, subset in enumerate(cohorts)
                ),
            )
    return splits
