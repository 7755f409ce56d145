"""What was embedded, kept in files that are checked before use."""
