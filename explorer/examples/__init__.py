"""The page Examples: gallery, viewer, ranked list and strip."""
