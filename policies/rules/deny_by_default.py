"""What is not allowed is refused: at the root, at the gateway, at every workload."""

from __future__ import annotations

from collections.abc import Iterator

from policies.access_rules import (
    Clause,
    action_of,
    any_covers,
    clauses,
    dry_run,
)
from policies.exposed import declared_open_paths, gateway_ports, gateway_workloads
from policies.policy import (
    Config,
    Enforcement,
    Finding,
    Object,
    Setting,
    Severity,
    name_of,
    namespace_of,
    object_policy,
    spec_of,
    stack_policy,
)
from policies.stack import Stack, by_reference, selector_of

_CONCEPTS = "https://istio.io/latest/docs/concepts/security/"


@stack_policy(
    "deny-by-default",
    title="The mesh refuses what no policy allows",
    severity=Severity.CRITICAL,
    codes=("KIA1301",),
    text="The root namespace holds an AuthorizationPolicy with an empty spec: an ALLOW that "
    "matches nothing, for every workload. Without it a workload that no ALLOW policy selects is "
    "open to everybody.",
    remedy="Add an AuthorizationPolicy with spec {} to the root namespace.",
    url=_CONCEPTS + "#implicit-enablement",
)
def deny_by_default(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks for the policy, then whether it is really empty."""
    if not stack.uses_istio or any(_denies_all(p, stack) for p in stack.of("AuthorizationPolicy")):
        return
    root = {
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "deny-all", "namespace": stack.root_namespace},
    }
    yield Finding(root, "spec", "no policy of the root namespace denies by default")


def _denies_all(policy: Object, stack: Stack) -> bool:
    spec = spec_of(policy)
    bound = selector_of(policy) or by_reference(policy)
    return (
        namespace_of(policy) == stack.root_namespace
        and not bound
        and action_of(policy) == "ALLOW"
        and not spec.get("rules")
        and not dry_run(policy)
    )


@stack_policy(
    "workload-authorized",
    title="Every workload is under an authorization policy",
    severity=Severity.HIGH,
    codes=("KIA1301",),
    text="At least one ALLOW policy selects each workload with a proxy, be it the one that denies "
    "by default. Otherwise everybody in the cluster may call it.",
    remedy="Deny by default in the root namespace or the workload's own.",
    url=_CONCEPTS + "#implicit-enablement",
)
def workload_authorized(stack: Stack, _: Config) -> Iterator[Finding]:
    """Asks for each workload with a proxy."""
    for workload in stack.workloads:
        if not workload.proxied or namespace_of(workload.source) not in _meshed(stack):
            continue
        policies = stack.applying("AuthorizationPolicy", workload)
        if not any(action_of(p) == "ALLOW" and not dry_run(p) for p in policies):
            yield Finding(workload.source, "", f"no ALLOW policy selects workload {workload}")


def _meshed(stack: Stack) -> set[str]:
    """Namespaces of which we know that they are in the mesh, and those of gateways."""
    found = {name for name in stack.namespaces if stack.injects(name)}
    return found | {account.split("/")[0] for account in stack.gateway_accounts}


@object_policy(
    "authorization-enforced",
    "AuthorizationPolicy",
    title="No authorization policy is a dry run",
    severity=Severity.HIGH,
    text="The annotation istio.io/dry-run makes a policy log its verdict and let everything pass. "
    "One with an action that Istio does not know is not enforced at all.",
    remedy="Remove the annotation; write ALLOW, DENY, AUDIT or CUSTOM.",
    url="https://istio.io/latest/docs/tasks/security/authorization/authz-dry-run/",
)
def enforced(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at the annotation and the action."""
    if dry_run(item):
        path = "metadata.annotations[istio.io/dry-run]"
        yield Finding(item, path, "the policy is only tried, not enforced")
    if action_of(item) not in ("ALLOW", "DENY", "AUDIT", "CUSTOM"):
        yield Finding(item, "spec.action", f"{action_of(item)} is no action that Istio knows")


@stack_policy(
    "gateway-demands-token",
    title="Gateways refuse requests without a token",
    severity=Severity.CRITICAL,
    text="At every gateway whose tokens are checked, a DENY policy refuses requests without one, "
    "on every TLS port. It leaves out nothing but paths that a policy declares as public, and "
    "CORS preflights. A DENY can't be undone by an ALLOW that is too broad.",
    remedy='Add a DENY with notRequestPrincipals ["*"] for the gateway; list the public paths '
    "under notPaths and declare them (annotation voicemesh.io/public-without-token) where they "
    "are allowed.",
    url="https://istio.io/latest/docs/tasks/security/authentication/authn-policy/#require-a-valid-token",
)
def gateway_demands_token(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at each gateway workload that has a RequestAuthentication."""
    for workload in gateway_workloads(stack):
        authentications = stack.applying("RequestAuthentication", workload)
        if not authentications:
            continue
        policies = stack.applying("AuthorizationPolicy", workload)
        public = declared_open_paths(stack, workload)
        demands = [
            (policy, clause)
            for policy in policies
            if action_of(policy) == "DENY" and not dry_run(policy)
            for clause in clauses(policy)
            if "*" in clause.negative.get("requestPrincipals", ())
        ]
        if not demands:
            message = f"no DENY policy refuses requests without a token at gateway {workload}"
            yield Finding(authentications[0], "", message)
        for policy, clause in demands:
            problem = _hole(clause, public)
            if problem:
                yield Finding(policy, clause.path, problem)
        covered = {port for _, clause in demands for port in clause.fields.get("ports", ())}
        anywhere = any("ports" not in clause.fields for _, clause in demands)
        for port in () if anywhere or not demands else gateway_ports(stack, workload):
            if not any_covers(covered, port):
                message = f"port {port} of gateway {workload} takes requests without a token"
                yield Finding(demands[0][0], demands[0][1].path, message)


def _hole(clause: Clause, public: list[str]) -> str | None:
    """What a DENY of requests without token leaves out beyond what is declared."""
    if extra := set(clause.fields) - {"ports"}:
        return f"it refuses only requests limited by {', '.join(sorted(extra))}"
    if extra := set(clause.negative) - {"requestPrincipals", "paths", "methods"}:
        return f"it leaves out requests by {', '.join(sorted(extra))}"
    if extra := set(clause.negative.get("methods", ())) - {"OPTIONS"}:
        return f"it leaves out method {', '.join(sorted(extra))}"
    undeclared = [p for p in clause.negative.get("paths", ()) if not any_covers(public, p)]
    if undeclared:
        return f"it leaves out {', '.join(undeclared)}, which no policy declares as public"
    return None


@stack_policy(
    "gateway-hides-internals",
    title="Gateways refuse paths that are for operators",
    severity=Severity.MEDIUM,
    text="A DENY at each gateway with public hosts refuses metrics and debug paths, whatever the "
    "services behind it serve.",
    remedy="Add the paths to a DENY policy for the gateway.",
    url=_CONCEPTS + "#authorization-policies",
    settings={
        "paths": Setting(
            "array", ["/metrics", "/debug", "/stats", "/config_dump"], "Paths to refuse."
        )
    },
    enforcement=Enforcement.ADVISORY,
    reason="ALLOW policies by path already refuse them; this is a second line.",
)
def gateway_hides_internals(stack: Stack, config: Config) -> Iterator[Finding]:
    """Asks each gateway for each path."""
    for workload in gateway_workloads(stack):
        refused = [
            path
            for policy in stack.applying("AuthorizationPolicy", workload)
            if action_of(policy) == "DENY" and not dry_run(policy)
            for clause in clauses(policy)
            if "paths" in clause.fields and not clause.negative
            if clause.fields.keys() <= {"paths", "ports"}
            if all(p in clause.fields.get("ports", (p,)) for p in gateway_ports(stack, workload))
            for path in clause.fields["paths"]
        ]
        for path in config["paths"]:
            if not any_covers(refused, path):
                yield Finding(
                    workload.source, "", f"gateway {name_of(workload.source)} lets {path} by"
                )
