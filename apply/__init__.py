"""Deploying a stack to a cluster: by the Pulumi engine, or without it by server-side apply."""
