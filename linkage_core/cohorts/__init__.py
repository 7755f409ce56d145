"""Sources of image and report pairs, one file a source."""
