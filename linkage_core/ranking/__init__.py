"""Arrays in, numbers out: exact counts, pools in closed form, intervals and paired tests."""

from linkage_core.ranking.counts import MatchCounts, match_counts

__all__ = ["MatchCounts", "match_counts"]
