"""A report to file: what was measured on one cohort, as a document for whoever decides, and the same as data."""
