"""What the gateway does to every request beyond routing and access.

Istio's own API is used where it has one (`components/gateway_proxy.py`); the rest are EnvoyFilters,
one for each subject, with typed Envoy messages as their values. `docs/edge.md` says what they
promise.
"""
