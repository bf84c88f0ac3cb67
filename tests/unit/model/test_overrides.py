"""What an environment changes of the catalogue."""

from __future__ import annotations

from model.catalogue import catalogue
from model.stack_file import adapted, load


def test_the_environment_says_how_long_streams_last() -> None:
    declared = catalogue()
    settings = load("dev", declared)
    override = settings.services["voice-engine"].model_copy(update={"stream_timeout": "20s"})
    changed = settings.model_copy(update={"services": {"voice-engine": override}})
    found = adapted(declared, changed)
    service = found.service("voice-engine")
    assert [one.timeout for one in service.websockets] == ["20s"]
    assert [one.stream_timeout for one in service.routes] == ["20s"]
    others = [one for one in found.services if one.name != "voice-engine"]
    assert others == [one for one in declared.services if one.name != "voice-engine"]


def test_an_hour_where_nothing_is_said() -> None:
    service = catalogue().service("voice-engine")
    assert [one.timeout for one in service.websockets] == ["3600s"]
    assert [one.stream_timeout for one in service.routes] == ["3600s"]
