"""What Istio objects mean: who may send which request to which workload, and what is public.

Works on plain objects, from this stack or any other; imports no other room of the project.
"""
