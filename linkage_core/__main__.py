"""`python -m linkage_core` is `linkage`."""

from linkage_core.cli import main

main()
