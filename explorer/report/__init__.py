"""The report on a page: what it holds, the report itself, and its files."""
