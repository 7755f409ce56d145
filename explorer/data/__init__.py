"""Your data: from a folder or embeddings to a filled Mitigation, without a terminal."""
