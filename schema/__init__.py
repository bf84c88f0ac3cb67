"""Makes the typed wire models of components/ from the CRDs of Istio and prometheus-operator."""
