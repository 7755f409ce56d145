"""Measuring linkage: rates by pool size, comparisons, strata, open world, exposure, fusion."""
