"""Recall of random pools from exact counts: the documented door to `linkage_core.ranking.pools`."""

from linkage_core.ranking.pools import expected_recall, expected_reciprocal_rank

__all__ = ["expected_recall", "expected_reciprocal_rank"]
