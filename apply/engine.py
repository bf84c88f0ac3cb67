"""A stack through the Pulumi engine, by its Automation API."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pulumi import automation

from apply.kubectl import Kubectl
from model.stack_file import ROOT

LOCAL_BACKEND = ROOT / ".voicemesh" / "pulumi"
"""Where the state of `dev` lies when the user has chosen no backend."""


class EngineError(Exception):
    """The engine failed; the text is its own."""


def available() -> bool:
    """True where the Pulumi CLI is on PATH."""
    return shutil.which("pulumi") is not None


def install() -> Path:
    """Installs the CLI that belongs to this SDK below ~/.pulumi, by the SDK's own installer.

    Raises:
        EngineError: the installer can't be reached or failed.
    """
    try:
        command = automation.PulumiCommand.install()
    except Exception as error:
        raise EngineError(
            f"the Pulumi CLI can't be installed from here: {error}\n"
            "Install it another way and put it on PATH, or go on without it: voicemesh then uses"
            " server-side apply."
        ) from None
    directory = Path(command.command).parent
    os.environ["PATH"] = f"{directory}{os.pathsep}{os.environ['PATH']}"
    return Path(command.command)


@contextmanager
def chosen(kubeconfig: Path | None, context: str | None) -> Iterator[Path | None]:
    """A kubeconfig whose current context is the wanted one, for as long as the engine runs.

    The engine's own setting for it would be written into the user's stack file.
    """
    if context is None:
        yield kubeconfig
        return
    with TemporaryDirectory(prefix="voicemesh-") as directory:  # readable by its owner only
        path = Path(directory) / "kubeconfig"
        minified = Kubectl(kubeconfig, context).run(
            "config", "view", "--raw", "--minify", "--flatten"
        )
        path.touch(mode=0o600)
        path.write_text(minified, encoding="utf-8")
        yield path


def stack(name: str, kubeconfig: Path | None) -> automation.Stack:
    """The stack in the user's backend; `dev` has one of its own in the project by default.

    Raises:
        EngineError: backend or passphrase are not as the engine needs them.
    """
    environment = {}
    if name == "dev" and not os.environ.get("PULUMI_BACKEND_URL"):
        LOCAL_BACKEND.mkdir(parents=True, exist_ok=True)
        environment["PULUMI_BACKEND_URL"] = f"file://{LOCAL_BACKEND}"
        # The lab's one secret lives as long as the lab.
        if not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & os.environ.keys():
            environment["PULUMI_CONFIG_PASSPHRASE"] = ""
    if kubeconfig:
        environment["KUBECONFIG"] = str(kubeconfig)
    try:
        selected = automation.create_or_select_stack(
            stack_name=name,
            work_dir=str(ROOT),
            opts=automation.LocalWorkspaceOptions(env_vars=environment),
        )
    except (automation.CommandError, automation.InvalidVersionError) as error:
        raise EngineError(str(error)) from None
    return selected
