"""The catalogue as a whole, and what follows from it: call graph, access, exposure."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from pathlib import Path as FilePath
from typing import NamedTuple, Self

from pydantic import ValidationError, model_validator

from model.invalid import InvalidInput, describe
from model.service import Route, Service
from model.values import Method, Model


class Exposure(NamedTuple):
    """One route that clients reach through the gateway on the API host."""

    service: Service
    route: Route


class Restricted(NamedTuple):
    """Operations on the API host that need a role."""

    path: str
    methods: tuple[Method, ...]
    roles: tuple[str, ...]


class Catalogue(Model):
    """All services of the platform, checked against each other."""

    services: tuple[Service, ...]

    @classmethod
    def declare(cls, services: Callable[[], Iterable[Service]]) -> Self:
        """The catalogue of the services that a declaring function returns.

        Raises:
            InvalidInput: with the file and line of the declaration that is wrong.
        """
        try:
            return cls(services=tuple(services()))
        except ValidationError as error:
            source = FilePath(services.__code__.co_filename)
            lines = [
                frame.lineno
                for frame in traceback.extract_tb(error.__traceback__)
                if frame.filename == str(source)
            ]
            place = f"{source.parent.name}/{source.name}"
            place += f":{lines[-1]}" if lines else ""
            subject = "" if error.title == cls.__name__ else f"{error.title}."
            raise InvalidInput(
                *(
                    f"{place}: {(subject + key).rstrip('.')}: {problem}".replace(": : ", ": ")
                    for key, problem in describe(error)
                )
            ) from None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all services, in the catalogue's order."""
        return tuple(service.name for service in self.services)

    def service(self, name: str) -> Service:
        """The service of that name.

        Raises:
            KeyError: there is none.
        """
        for service in self.services:
            if service.name == name:
                return service
        raise KeyError(name)

    def callers(self, service: Service) -> tuple[str, ...]:
        """Names of the services that may call this one."""
        if service.callers == "every service":
            return tuple(name for name in self.names if name != service.name)
        return service.callers

    def callees(self, service: Service) -> tuple[Service, ...]:
        """The services that this one may call."""
        return tuple(other for other in self.services if service.name in self.callers(other))

    def may_call(self, caller: str, callee: str) -> bool:
        """True where the access matrix lets the first service call the second."""
        return caller in self.callers(self.service(callee))

    @property
    def exposures(self) -> tuple[Exposure, ...]:
        """Every route on the API host, in the catalogue's order."""
        return tuple(
            Exposure(service, route) for service in self.services for route in service.routes
        )

    @property
    def restricted(self) -> tuple[Restricted, ...]:
        """Every operation on the API host that needs a role."""
        return tuple(
            Restricted(route.path, rule.methods or route.methods, rule.roles)
            for _, route in self.exposures
            for rule in route.restricted
        )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in self.names:
            if self.names.count(name) > 1:
                raise ValueError(f"service {name!r} is declared twice")
        for service in self.services:
            if service.callers == "every service":
                continue
            for caller in service.callers:
                if caller not in self.names:
                    raise ValueError(
                        f"{service.name}: caller {caller!r} is not a service"
                        f" (services: {', '.join(self.names)})"
                    )
        _no_overlap("API", [(service, route.path) for service, route in self.exposures])
        _no_overlap("WebSocket", [(s, ws.path) for s in self.services for ws in s.websockets])
        _no_overlap("gRPC", [(s, f"/{grpc.name}") for s in self.services for grpc in s.grpc])
        return self


def _no_overlap(host: str, claims: list[tuple[Service, str]]) -> None:
    for index, (service, path) in enumerate(claims):
        for other, taken in claims[:index]:
            if path == taken or path.startswith(f"{taken}/") or taken.startswith(f"{path}/"):
                raise ValueError(
                    f"{other.name} claims {taken} and {service.name} claims {path} on the {host}"
                    " host; one path belongs to one route"
                )
