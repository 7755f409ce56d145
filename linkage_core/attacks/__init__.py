"""Attackers who adapt to a release, each with exact counts over the held-out images."""
