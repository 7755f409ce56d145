"""What the tests make their cohorts, stores and files with."""
