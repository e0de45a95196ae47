"""`python -m journeyman`: the same as the console script."""

from journeyman.cli.main import main

main()
