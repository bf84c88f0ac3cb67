"""The generator: names from .proto files, exclusions and constraints from schemas, staleness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.toolchain.crds import istio_api_crds, prometheus_operator_crds
from schema.__main__ import PROJECT, main, stale
from schema.emit import emit
from schema.flatten import Flattener, Place
from schema.generate import ISTIO, generate_all
from schema.kinds import load_kinds
from schema.proto import Messages

PROTO = """
syntax = "proto3"; // message Commented { }
package demo.v1;
import "google/protobuf/duration.proto";
/* message AlsoCommented {} */
message Rule {
  message From { repeated Source sources = 1; }
  option (some.option) = "message Quoted {";
  enum Mode { A = 0; OLD = 1 [deprecated = true]; }
  oneof match_type { string exact = 1; From from_source = 2 [deprecated = true]; }
  map<string, Source> by_name = 3 [(google.api.field_behavior) = REQUIRED];
  google.protobuf.Duration idle_timeout = 4;
  Mode mode = 5;
  demo.v1.Source consecutive_5xx_source = 6;
  reserved 7;
}
message Source { Rule.From nested = 1; }
"""


@pytest.fixture
def messages(tmp_path: Path) -> Messages:
    (tmp_path / "rule.proto").write_text(PROTO)
    return Messages(tmp_path)


def test_messages_are_read_with_their_nesting(messages: Messages) -> None:
    rule = messages.top_level("Rule", "rule")
    assert {json_name: name for json_name, (name, _) in rule.fields.items()} == {
        "exact": "exact",
        "fromSource": "from_source",
        "byName": "by_name",
        "idleTimeout": "idle_timeout",
        "mode": "mode",
        "consecutive5xxSource": "consecutive_5xx_source",
    }
    assert rule.deprecated == {"fromSource", "OLD"}
    nested = [messages.type_of(rule, name) for name in rule.fields]
    assert [m.path if m else None for m in nested] == [
        None,
        ("Rule", "From"),
        ("Source",),
        None,
        None,
        ("Source",),
    ]
    source = messages.top_level("Source", "rule")
    inner = messages.type_of(source, "nested")
    assert inner is not None
    assert inner.full_name == "demo.v1.Rule.From"
    for absent in ("Commented", "AlsoCommented", "Quoted"):
        with pytest.raises(LookupError, match=absent):
            messages.top_level(absent, "rule")


def flatten(schema: dict[str, Any]) -> dict[str, Any]:
    flattener = Flattener("demo", None, lambda place: place.path[-1].title())
    flattener.add({"type": "object", **schema}, Place("kind", ("root",)))
    return dict(flattener.modules["kind"].items())


STRING = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "groups"),
    [
        ({}, ()),
        (
            {
                "oneOf": [
                    {"not": {"anyOf": [{"required": ["aB"]}, {"required": ["c"]}]}},
                    {"required": ["aB"]},
                    {"required": ["c"]},
                ]
            },
            (("aB", "c"),),
        ),
        # one field alone excludes nothing
        ({"oneOf": [{"not": {"anyOf": [{"required": ["c"]}]}}, {"required": ["c"]}]}, ()),
        (
            {
                "allOf": [
                    {"oneOf": [{"required": ["aB"]}, {"required": ["c"]}]},
                    {"oneOf": [{"required": ["c"]}, {"required": ["d"]}]},
                ]
            },
            (("aB", "c"), ("c", "d")),
        ),
        (
            {
                "x-kubernetes-validations": [
                    {"rule": "(has(self.aB) ? 1 : 0) + (has(self.d) ? 1 : 0) <= 1"},
                    {"rule": "has(self.aB) || has(self.c)"},
                ]
            },
            (("aB", "d"),),
        ),
        # the old spelling of a field beside the right one is neither a field nor in a group
        (
            {
                "x-kubernetes-validations": [
                    {
                        "rule": "(has(self.aB) ? 1 : 0) + (has(self.a_b) ? 1 : 0)"
                        " + (has(self.c) ? 1 : 0) <= 1"
                    }
                ]
            },
            (("aB", "c"),),
        ),
    ],
)
def test_exclusions(schema: dict[str, Any], groups: tuple[tuple[str, ...], ...]) -> None:
    fields = {"aB": STRING, "a_b": STRING, "c": STRING, "d": STRING}
    (root,) = flatten({"properties": fields, **schema}).values()
    assert root.at_most_one == groups
    assert root.python_names == {"aB": "a_b", "c": "c", "d": "d"}


def test_one_name_for_two_shapes_is_an_error() -> None:
    flattener = Flattener("demo", None, lambda place: "Same")
    flattener.add({"type": "object", "properties": {"a": STRING}}, Place("kind", ("x",)))
    with pytest.raises(ValueError, match="two shapes"):
        flattener.add({"type": "object", "properties": {"b": STRING}}, Place("kind", ("y",)))


def test_emitted_code_works_and_keeps_constraints() -> None:
    definitions = flatten(
        {
            "properties": {
                "from": {"type": "array", "maxItems": 1, "items": {**STRING, "minLength": 2}},
                "intOrString": {"x-kubernetes-int-or-string": True, "anyOf": []},
                "child": {"type": "object", "properties": {"port": {"type": "integer"}}},
                "ratio": {"type": "number", "maximum": 1},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
            "required": ["child"],
        }
    )
    text = emit("demo", "kind", definitions, {}, "a test")
    assert "do not edit" in text
    module: dict[str, Any] = {"__name__": "emitted"}
    exec(compile(text, "emitted", "exec"), module)
    root = module["Root"]
    root.model_rebuild(_types_namespace=module)
    good = {
        "from": ["ab"],
        "intOrString": "80%",
        "child": {"port": 1},
        "ratio": 1,
        "free": {"any_Thing": None},
    }
    dumped = root.model_validate(good).model_dump(exclude_none=True)
    assert dumped == good
    assert isinstance(dumped["ratio"], int)
    for bad in (
        {"from": ["a"]},
        {"from": ["ab", "cd"]},
        {"ratio": 1.1},
        {"child": {"prot": 1}},
        {"child": None},
        {"intOrString": 1.5},
    ):
        with pytest.raises(ValueError, match=next(iter(bad))):
            root.model_validate({**good, **bad})


def test_the_newest_served_version_is_taken() -> None:
    kinds = load_kinds([istio_api_crds()], ["Telemetry", "EnvoyFilter", "ProxyConfig"])
    assert [kind.api_version for kind in kinds] == [
        "telemetry.istio.io/v1",  # served, though v1alpha1 is what is stored
        "networking.istio.io/v1alpha3",
        "networking.istio.io/v1beta1",
    ]
    with pytest.raises(LookupError, match="Nothing"):
        load_kinds([istio_api_crds()], ["Nothing"])


@pytest.fixture(scope="module")
def generated() -> dict[Path, str]:
    return generate_all(istio_api_crds(), prometheus_operator_crds())


def test_the_wire_types_are_what_the_crds_give(generated: dict[Path, str]) -> None:
    assert stale(PROJECT, generated) == {}, "run `python -m schema`"


def test_staleness_is_noticed(generated: dict[Path, str], tmp_path: Path) -> None:
    for path, text in generated.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert stale(tmp_path, generated) == {}
    (tmp_path / ISTIO / "gateway.py").write_text(generated[ISTIO / "gateway.py"] + "x = 1\n")
    (tmp_path / ISTIO / "selector.py").unlink()
    (tmp_path / ISTIO / "old_kind.py").write_text("")
    differences = stale(tmp_path, generated)
    assert set(differences) == {
        ISTIO / "gateway.py",
        ISTIO / "selector.py",
        ISTIO / "old_kind.py",
    }
    assert differences[ISTIO / "gateway.py"] == "+0 -1 lines"
    assert differences[ISTIO / "old_kind.py"] == "no longer generated"


def test_check_exits_with_1_and_writes_nothing_when_stale(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("schema.__main__.PROJECT", tmp_path)
    monkeypatch.setattr(
        "schema.__main__.generate_all", lambda *_: {ISTIO / "gateway.py": "one = 1\ntwo = 2\n"}
    )
    (tmp_path / ISTIO).mkdir(parents=True)
    assert main(["--check"]) == 1
    assert "components/istio/gateway.py: +2 -0 lines" in capsys.readouterr().out
    assert not (tmp_path / ISTIO / "gateway.py").exists()
    assert main([]) == 0
    assert main(["--check"]) == 0
