"""Denied user agents: refused before the token is looked at."""

from __future__ import annotations

from collections.abc import Iterator

from lab.contracts.contract import CLIENT, DENIED, Call, Contract, Expect
from lab.contracts.facts import Facts
from lab.contracts.ways_in import others


def contracts(facts: Facts) -> Iterator[Contract]:
    """The families `agent` and `user-agent`."""
    denied = facts.settings.authorization.denied_user_agents
    if not denied:
        return
    path, wrong = "/api/v1/users/1", ("authorization", "Bearer wrong")
    yield Contract(
        "user-agent.denied",
        "A request whose User-Agent contains a product of `deniedUserAgents`, anywhere and in any"
        " case, is answered with 403 before its token is looked at.",
        "edge.md",
        tuple(
            # A bad token is answered with 401 wherever it is looked at.
            Call(CLIENT, facts.api(path, *headers, ("user-agent", text)), DENIED)
            for name in denied
            for text in (name, name.upper(), f"Mozilla/5.0 ({name.title()}/1.7)", f"x{name}x")
            for headers in ((wrong,), facts.bearer())
        )
        + tuple(
            Call(CLIENT, way.ask(wrong, ("user-agent", name)), way.denied)
            for way in others(facts)
            for name in denied
        )
        + (
            Call(CLIENT, facts.api(path, wrong), Expect((401,))),
            Call(CLIENT, facts.api(path, *facts.bearer()), Expect((200,))),
            Call(
                CLIENT,
                facts.api(path, *facts.bearer(), ("user-agent", f"{denied[0][:-1]}-like/1.0")),
                Expect((200,)),
            ),
        ),
    )
    yield Contract(
        "agent.denied",
        "Clients whose User-Agent contains a name in `authorization.deniedUserAgents`, in any case"
        " and at any place, are refused.",
        "security.md",
        tuple(
            Call(CLIENT, facts.api("/health", ("user-agent", text)), DENIED)
            for name in denied
            for text in (name, name.upper(), f"Mozilla/5.0 {name.title()}/1.7", f"x{name}x")
        )
        + (Call(CLIENT, facts.api("/health"), Expect((200,))),),
        safe=True,
    )
