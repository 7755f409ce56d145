"""Mitigation and Compare mitigations."""
