"""`python -m ablate`."""

from ablate.cli.app import main

main()
