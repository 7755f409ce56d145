"""What can still be read from embeddings, before and after."""
