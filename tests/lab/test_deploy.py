"""`up`, `preview` and `destroy` without the engine, against a real API server and istiod's webhook."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import render
from apply import apply_set
from apply.kubectl import ClusterError, Kubectl
from apply.server_side import Deployment
from components.objects import Declared, GeneratedSecret, HelmRelease, Manifest, reference
from lab.lab import Lab
from lab.toolchain.binaries import ensure
from model import stack_file
from model.access import Catalogue
from model.catalogue import catalogue, services
from model.stack_file import ROOT, adapted
from tests.lab.conftest import MESH_CONFIG, PROGRAM, without_pulumi
from tests.lab.stand_ins import certificate, pods

pytestmark = pytest.mark.lab

LEAVES = "notification-service"
"""A service that no other names as a caller, so that the catalogue holds together without it."""
WITHOUT_IT = f"""
import sys
import model.catalogue
import cli.main
declared = model.catalogue.services
model.catalogue.services = lambda: tuple(s for s in declared() if s.name != {LEAVES!r})
cli.main.main()
"""


@pytest.fixture(scope="module")
def lab(control_plane: Lab) -> Iterator[Lab]:
    """The control plane with none of our stacks in it, before and after."""
    control_plane.start(MESH_CONFIG)
    yield control_plane
    control_plane.start(MESH_CONFIG)
    deployment(control_plane, "dev").destroy(_quiet)


def deployment(
    lab: Lab, stack: str, declared: list[Declared] | None = None, of: Catalogue | None = None
) -> Deployment:
    return Deployment(
        stack=stack,
        declared=declared if declared is not None else render.declared(stack, of),
        expand=lambda items: list(render.expanded(items)),
        kubectl=Kubectl(lab.kubeconfig),
    )


def voicemesh(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The real program; `pulumi` is never on its PATH."""
    return subprocess.run(
        [str(PROGRAM), *arguments, "--kubeconfig", str(lab.kubeconfig)],
        env=without_pulumi(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def up(lab: Lab) -> dict[str, list[str]]:
    """One whole `up` of dev: the objects by what happened to them."""
    ended = voicemesh(lab, "up", "--stack", "dev", "--json")
    assert ended.returncode == 0, ended.stderr
    return _by_action(ended)


class Standing:
    """Whether dev stands as declared, so that a test need not deploy it once more."""

    def __init__(self) -> None:
        self.as_declared = False


@pytest.fixture(scope="module")
def state() -> Standing:
    return Standing()


@pytest.fixture
def stands(lab: Lab, state: Standing) -> Iterator[Lab]:
    """dev stands as declared; the test leaves it so, or fails."""
    if not state.as_declared:
        up(lab)
    state.as_declared = False
    yield lab
    state.as_declared = True


@pytest.fixture
def gone(lab: Lab, state: Standing) -> Iterator[Lab]:
    """Nothing of dev is there."""
    state.as_declared = False
    deployment(lab, "dev").destroy(_quiet)
    yield lab
    state.as_declared = True


def test_everything_is_accepted(gone: Lab) -> None:
    rendered = {reference(one) for one in render.objects("dev")}
    done = up(gone)
    assert set(done) == {"created"}
    assert set(done["created"]) == rendered


def test_again_nothing_changes(stands: Lab) -> None:
    lab = stands
    before = _versions(lab)
    ended = voicemesh(lab, "up", "--stack", "dev")
    assert ended.returncode == 0
    assert "Nothing changed" in ended.stdout
    assert "server-side apply" in ended.stderr
    assert _versions(lab) == before, "an apply that changes nothing writes nothing"


def test_preview_of_what_stands_is_empty(stands: Lab) -> None:
    lab = stands
    told = _by_action(voicemesh(lab, "preview", "--stack", "dev", "--json"))
    assert set(told) == {"unchanged"}


def test_a_generated_secret_is_made_once_and_never_shown(stands: Lab) -> None:
    lab = stands
    (secret,) = [one for one in render.declared("dev") if isinstance(one, GeneratedSecret)]
    values = {_password(lab, secret, n) for n in (secret.namespace, *secret.also_in)}
    assert len(values) == 1, "both ends of a connection have the same password"
    ended = voicemesh(lab, "up", "--stack", "dev")
    preview = voicemesh(lab, "preview", "--stack", "dev", "--json")
    assert {_password(lab, secret, n) for n in (secret.namespace, *secret.also_in)} == values
    (value,) = values
    for text in (ended.stdout, ended.stderr, preview.stdout, preview.stderr):
        assert value not in text

    # One end lost it: it gets the other's, not a new one.
    lab.kubectl.run("delete", "secret", secret.name, "--namespace", secret.also_in[0])
    up(lab)
    assert _password(lab, secret, secret.also_in[0]) == value


def test_a_change_by_hand_is_seen_and_mended(stands: Lab) -> None:
    lab = stands
    lab.kubectl.run(
        *("patch", "authorizationpolicy", "deny-all", "--namespace=istio-system"),
        *("--type=merge", '--patch={"spec":{"action":"ALLOW","rules":[{}]}}'),
    )
    name = "AuthorizationPolicy istio-system/deny-all"
    told = _by_action(voicemesh(lab, "preview", "--stack", "dev", "--json"))
    assert told["changed"] == [name]
    assert up(lab)["changed"] == [name]
    live = lab.kubectl.get("authorizationpolicy", "deny-all", "--namespace=istio-system")
    assert "rules" not in live["spec"]


def test_a_service_that_leaves_takes_exactly_its_objects(stands: Lab) -> None:
    """The whole program, with a catalogue that has one service less."""
    lab = stands
    rest = Catalogue(services=tuple(one for one in services() if one.name != LEAVES))
    whole = {reference(one): one for one in render.objects("dev")}
    fewer = {reference(one): one for one in render.objects("dev", rest)}
    gone = whole.keys() - fewer.keys()
    touched = {name for name, one in fewer.items() if one != whole[name]}
    assert all(LEAVES in name for name in gone)

    command = ["-c", WITHOUT_IT, "up", "--stack", "dev", "--json"]
    ended = subprocess.run(
        [sys.executable, *command, "--kubeconfig", str(lab.kubeconfig)],
        env=without_pulumi(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    done = _by_action(ended)
    assert set(done["pruned"]) == gone
    assert set(done.get("changed", ())) == touched
    assert set(done["unchanged"]) == fewer.keys() - touched
    assert "created" not in done
    assert _live(lab) == fewer.keys()

    assert set(up(lab)["created"]) == gone


def test_what_the_sets_record_lacks_is_recorded_again(stands: Lab) -> None:
    """As when a stack gets its first object of a kind, or in a namespace."""
    lab = stands
    parent = apply_set.parent_name("dev")
    lab.kubectl.run(
        *("annotate", parent, "--overwrite"),
        *(f"{apply_set.KINDS}=Service", f"{apply_set.NAMESPACES}=voiceassistant-dev"),
    )
    assert set(up(lab)) == {"unchanged"}
    plural, _, name = parent.partition("/")
    record = lab.kubectl.get(plural, name)["metadata"]["annotations"]
    members = [one for one in render.objects("dev") if one["kind"] != "CustomResourceDefinition"]
    assert set(record[apply_set.KINDS].split(",")) == apply_set.kinds(members)
    assert set(record[apply_set.NAMESPACES].split(",")) == apply_set.namespaces(members)


def test_objects_of_others_are_left_alone(stands: Lab) -> None:
    lab = stands
    theirs = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "theirs", "namespace": "voiceassistant-dev"},
        "data": {"a": "b"},
    }
    lab.kubectl.apply([theirs])
    up(lab)
    assert lab.kubectl.get("configmap", "theirs", "--namespace=voiceassistant-dev")["data"]


def test_two_stacks_can_not_own_one_object(stands: Lab) -> None:
    """Both have policies for the whole mesh; neither takes over the other's."""
    lab = stands
    before = _versions(lab)
    with pytest.raises(ClusterError, match="belongs to another stack of this cluster"):
        deployment(lab, "staging", _without_control_plane("staging")).up(_quiet)
    assert _versions(lab) == before


def test_what_the_webhook_refuses_is_told(stands: Lab) -> None:
    lab = stands
    declared = render.declared("dev")
    broken: list[Declared] = [
        _broken(one) if _is(one, "VirtualService", LEAVES) else one for one in declared
    ]
    run = deployment(lab, "dev", broken)
    with pytest.raises(ClusterError, match=r"admission webhook .*istio.* denied the request"):
        run.up(_quiet)
    assert set(up(lab)) == {"unchanged"}


def test_killed_in_the_middle_the_next_run_converges(gone: Lab) -> None:
    lab = gone
    with _started(lab) as process:
        _wait_until_half_applied(process)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
    there = _live(lab)
    rendered = {reference(one) for one in render.objects("dev")}
    assert there < rendered, "killed too late to prove anything"
    assert there, "killed too early to prove anything"
    done = up(lab)
    assert set(done["created"]) >= rendered - there
    assert _live(lab) == rendered
    assert set(up(lab)) == {"unchanged"}


def test_an_api_server_that_stops_half_way_is_told_and_the_next_run_converges(gone: Lab) -> None:
    lab = gone
    (server,) = [part for part in lab.status() if part.part == "kube-apiserver"]
    assert server.pid
    with _started(lab) as process:
        _wait_until_half_applied(process)
        os.kill(server.pid, signal.SIGKILL)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: " in told
    assert "Half-applied: " in told
    assert "Run the same command again" in told
    assert "Traceback" not in told

    lab.start(MESH_CONFIG)
    up(lab)
    assert _live(lab) == {reference(one) for one in render.objects("dev")}
    assert set(up(lab)) == {"unchanged"}


def test_interrupted_by_hand(gone: Lab) -> None:
    lab = gone
    with _started(lab) as process:
        _wait_until_half_applied(process)
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again" in told
    assert "Traceback" not in told
    up(lab)
    assert _live(lab) == {reference(one) for one in render.objects("dev")}
    assert set(up(lab)) == {"unchanged"}


def test_a_cluster_that_does_not_answer(tmp_path: Path) -> None:
    nowhere = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}
    user = {"name": "u", "user": {"token": "none"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    config = {"clusters": [cluster], "users": [user], "contexts": [context]}
    nowhere.write_text(
        json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "c", **config})
    )
    ended = subprocess.run(
        [str(PROGRAM), "up", "--stack", "dev", "--kubeconfig", str(nowhere)],
        env=without_pulumi(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 1
    assert "refused" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_destroy_protects_all_but_dev(stack: str, lab: Lab) -> None:
    ended = voicemesh(lab, "destroy", "--stack", stack, "--yes")
    assert ended.returncode == 2
    assert "only dev may be destroyed" in ended.stderr
    assert "--allow-production" in ended.stderr


def test_destroy_asks(lab: Lab) -> None:
    ended = subprocess.run(
        [str(PROGRAM), "destroy", "--stack", "dev", "--kubeconfig", str(lab.kubeconfig)],
        env=without_pulumi(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "--yes" in ended.stderr


def test_destroy_leaves_nothing_of_the_stack_and_everything_else(
    stands: Lab, state: Standing
) -> None:
    lab = stands
    ended = voicemesh(lab, "destroy", "--stack", "dev", "--yes", "--json")
    assert ended.returncode == 0, ended.stderr
    assert set(_by_action(ended)) == {"pruned"}
    assert _live(lab) == set()
    namespaces = {one["metadata"]["name"] for one in lab.kubectl.get("namespaces")["items"]}
    assert not namespaces & {"voiceassistant-dev", "voiceassistant-infra"}
    assert "istio-system" in namespaces
    assert lab.kubectl.get("crd", "virtualservices.networking.istio.io")
    again = voicemesh(lab, "destroy", "--stack", "dev", "--yes", "--json")
    assert again.returncode == 0
    assert _by_action(again) == {}


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_a_stack_stands_and_the_analyzer_has_nothing_to_say(
    stack: str, lab: Lab, tmp_path: Path
) -> None:
    """All of a stack in the API server, analyzed by istioctl with every one of its analyzers.

    The control plane's own releases are the lab's here, from the same charts. Where the platform's
    charts run the services, pods stand in for theirs (istiod injects them like any other); the
    gateway's certificate comes from elsewhere in every environment.
    """
    whole = catalogue()
    settings = stack_file.load(stack, whole)
    run = deployment(lab, stack, _without_control_plane(stack))
    try:
        run.up(_quiet)
        lab.kubectl.apply([certificate(settings)])
        if settings.workloads.mode == "external":
            lab.kubectl.apply(pods(settings, adapted(whole, settings)))
        assert _analyzed(lab, stack, tmp_path) == []
        # It does look at what is there.
        lab.kubectl.run(
            *("delete", "secret", settings.gateway.tls.credential_name),
            f"--namespace={settings.namespaces.mesh}",
        )
        assert {message["code"] for message in _analyzed(lab, stack, tmp_path)} == {"IST0101"}
    finally:
        run.destroy(_quiet)


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_every_object_passes_admission(stack: str, lab: Lab) -> None:
    """A server-side dry run of all, charts with production values included."""
    objects = [_renamed(one) for one in render.objects(stack)]
    spaces = [one for one in objects if one["kind"] == "Namespace"]
    mine = [one for one in spaces if one["metadata"]["name"] != "istio-system"]
    lab.kubectl.apply(mine)
    try:
        answers = Kubectl(lab.kubeconfig).dry_run(objects)
    finally:
        lab.kubectl.run("delete", "namespace", *(one["metadata"]["name"] for one in mine))
    assert Counter(map(reference, answers)) == Counter(map(reference, objects))


def _renamed(one: Manifest) -> Manifest:
    """Webhook configurations under another name.

    The lab's own ones of these names call a URL; a dry run merges the chart's into them, and an
    API server refuses a webhook with both a URL and a service.
    """
    if not one["kind"].endswith("WebhookConfiguration"):
        return one
    name = f"{one['metadata']['name']}-{one['metadata'].get('labels', {}).get('release', 'chart')}"
    return {**one, "metadata": {**one["metadata"], "name": name}}


def _without_control_plane(stack: str) -> list[Declared]:
    """The stack without what the lab is itself: Istio's own releases, and their namespace."""
    return [
        one
        for one in render.declared(stack)
        if not (isinstance(one, HelmRelease) and one.chart != "gateway")
        and not _is(one, "Namespace", "istio-system")
    ]


def _analyzed(lab: Lab, stack: str, directory: Path) -> list[dict[str, Any]]:
    import yaml

    from components.mesh_config import mesh_config

    mesh = directory / "mesh.yaml"
    mesh.write_text(yaml.safe_dump(mesh_config(stack_file.load(stack, catalogue()))))
    ended = subprocess.run(
        [
            *(str(ensure(["istioctl"])["istioctl"]), "analyze", "--all-namespaces"),
            *("--output=json", "--output-threshold=Warning", "--timeout=120s"),
            *(f"--kubeconfig={lab.kubeconfig}", f"--meshConfigFile={mesh}", "--verbose"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Skipped analyzers" not in ended.stderr + ended.stdout
    found: list[dict[str, Any]] = json.loads(ended.stdout)
    return found


def _is(one: Declared, kind: str, name: str) -> bool:
    return isinstance(one, dict) and (one["kind"], one["metadata"]["name"]) == (kind, name)


def _broken(one: Declared) -> Manifest:
    """A route that no schema refuses and istiod does: its weights make no whole."""
    assert isinstance(one, dict)
    destination = {"destination": {"host": LEAVES}}
    route = {"route": [destination | {"weight": -1}, destination | {"weight": 20}]}
    return {**one, "spec": {**one["spec"], "http": [route]}}


def _started(lab: Lab) -> subprocess.Popen[str]:
    """`up` in a process group of its own, as a shell starts it."""
    return subprocess.Popen(
        [str(PROGRAM), "up", "--stack", "dev", "--kubeconfig", str(lab.kubeconfig)],
        env=without_pulumi(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the suite runs in the background, SIGINT is ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def _wait_until_half_applied(process: subprocess.Popen[str]) -> None:
    assert process.stderr
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("up dev: 50/"):
            return
    raise AssertionError(f"up ended before it was half done: {said}")


def _live(lab: Lab) -> set[str]:
    return {reference(one) for one in deployment(lab, "dev").live()}


def _versions(lab: Lab) -> dict[str, str]:
    """resourceVersion of each object, which every write moves; controllers write status, too."""
    moving = {"Deployment"}
    return {
        reference(one): one["metadata"]["resourceVersion"]
        for one in deployment(lab, "dev").live()
        if one["kind"] not in moving
    }


def _password(lab: Lab, secret: GeneratedSecret, namespace: str) -> str:
    import base64

    live = lab.kubectl.get("secret", secret.name, "--namespace", namespace)
    return base64.b64decode(live["data"][secret.key]).decode()


def _by_action(ended: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for change in json.loads(ended.stdout)["changes"]:
        found.setdefault(change["action"], []).append(change["object"])
    return found


def _quiet(text: str, done: int) -> None:
    """No progress is shown."""
