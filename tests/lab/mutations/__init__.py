"""Mistakes that the traffic contracts notice: each with the contracts that are meant to."""
