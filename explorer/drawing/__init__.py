"""Charts, colours, sentences and downloads."""
