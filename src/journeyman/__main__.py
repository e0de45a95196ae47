"""`python -m journeyman`: the same as the console script. Processes that begin by importing it (spawn) are no command."""

from journeyman.cli.main import main

if __name__ == "__main__":
    main()
