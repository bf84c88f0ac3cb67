"""Which Go, which programs, which packages; what is said when they are missing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab.toolchain import binaries, charts, go, system
from lab.toolchain.binaries import PROGRAMS, Built, Wheel
from lab.toolchain.errors import ToolchainError


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go1.26.8", (1, 26, 8)),
        ("go1.26", (1, 26, 0)),
        ("go1.30.1 X:nocoverageredesign", (1, 30, 1)),
        ("devel go1.27-abcdef", (0, 0, 0)),
        ("", (0, 0, 0)),
    ],
)
def test_versions_of_go(text: str, version: tuple[int, int, int]) -> None:
    assert go.parse_version(text) == version


def test_an_older_go_on_path_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go1.19.8\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    asked: list[str] = []

    def ensure(part: str, make: object) -> Path:
        asked.append(part)
        raise ToolchainError("no network")

    monkeypatch.setattr("lab.toolchain.go.cache.ensure", ensure)
    with pytest.raises(ToolchainError, match="no network"):
        go.go.__wrapped__()
    assert [part.partition("-")[0] for part in asked] == ["go"]


def test_go_of_the_wheel_satisfies_the_modules() -> None:
    assert go.parse_version("go" + go.WHEEL.partition("==")[2]) >= go.needed()


def test_every_built_program_has_a_module_with_checksums_and_no_hosts() -> None:
    for name, program in PROGRAMS.items():
        if isinstance(program, Built):
            module = go.MODULES / program.module
            assert f"{program.package}\n" in (module / "go.mod").read_text(), name
            assert "://" not in (module / "go.sum").read_text(), name


def test_pinned_versions() -> None:
    assert go.pinned("custom-resources", "istio.io/api") == f"v{charts.RELEASE}"
    assert go.pinned("kubernetes", "k8s.io/kubernetes") == binaries.KUBERNETES
    with pytest.raises(ToolchainError, match=r"does not require example\.org/x"):
        go.pinned("istio", "example.org/x")


def test_key_of_a_program_follows_flags_and_go() -> None:
    one = Built("etcd", "go.etcd.io/etcd/server/v3")
    other = Built("etcd", "go.etcd.io/etcd/server/v3", ldflags="-s")
    assert (
        len(
            {
                one.key("etcd", "go1.26.8"),
                one.key("etcd", "go1.26.9"),
                other.key("etcd", "go1.26.8"),
            }
        )
        == 3
    )


def test_unknown_program_names_the_known() -> None:
    with pytest.raises(ToolchainError, match=r"no program nginx; there are: .*etcd.*istioctl"):
        binaries.ensure(["nginx"])


def test_programs_of_wheels_run() -> None:
    found = binaries.ensure(name for name, one in PROGRAMS.items() if isinstance(one, Wheel))
    said = subprocess.check_output([found["redis-server"], "--version"], text=True)
    assert said.startswith("Redis server")
    with found["envoy"].open("rb") as envoy:
        assert envoy.read(4) == b"\x7fELF"


def test_missing_wheel_says_what_to_do() -> None:
    with pytest.raises(ToolchainError, match=r"not-a-wheel is not installed; run: make setup"):
        Wheel("not-a-wheel", "bin/x").find("x")


def test_failing_go_command_shows_its_errors() -> None:
    with pytest.raises(ToolchainError, match=r"(?s)go build no-such-directory.*no-such"):
        go.go().run("build", "no-such-directory", module="fortio")


def test_release_stamps() -> None:
    chart = "name: istiod\n# version: comment\nversion: 1.0.0\nappVersion: 1.0.0\n"
    assert charts.stamped(chart) == (
        f"name: istiod\n# version: comment\nversion: {charts.RELEASE}\n"
        f"appVersion: {charts.RELEASE}\n"
    )
    values = '  hub: ""\n    hub: registry.istio.io/testing\n    tag: latest\n    tag: other\n'
    assert charts.with_images(values) == (
        f'  hub: ""\n    hub: {charts.HUB}\n    tag: {charts.RELEASE}\n    tag: other\n'
    )


def test_missing_system_programs_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(system, "_SBIN", "/nowhere")
    monkeypatch.setattr("lab.toolchain.system.os.geteuid", lambda: 1000)
    with pytest.raises(
        ToolchainError, match=r"missing: ip, iptables \(Debian packages: iproute2 iptables\)"
    ):
        system.ensure(["ip", "iptables"])


def test_nothing_is_installed_where_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_apt", lambda *_: pytest.fail("apt-get was called"))
    system.ensure(["mount"])
