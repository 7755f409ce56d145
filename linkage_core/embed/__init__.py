"""From a cohort to features in the store."""
