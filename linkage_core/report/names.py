"""The names that a command offers; apart from the table, whose functions take long to import."""

OPTIONAL = ("decoys", "missing-match", "exposure", "ceilings", "mitigations", "releases", "usefulness")
"""Sections that may be left out, in the order of the document."""
