"""The pages on risk: decoys, missing match, who is exposed."""
