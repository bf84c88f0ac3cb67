"""The policy pack: `pulumi preview --policy-pack policies`.

Starting it starts a server that never returns, so nothing else is here. The engine runs this
directory as a script; the project's root takes the directory's place on the import path, so that
there is one way to import a policy, here and in tests.
"""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path = [str(_HERE.parent), *(entry for entry in sys.path if Path(entry).resolve() != _HERE)]

from pulumi_policy import PolicyPack  # noqa: E402

from policies.pack import NAME, pulumi_policies  # noqa: E402

PolicyPack(NAME, policies=pulumi_policies())
