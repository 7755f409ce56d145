"""One file a kind of release."""
