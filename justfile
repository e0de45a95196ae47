# The everyday commands. `just` alone tests and lints.

default: test lint

# Everything a contributor needs, into the active environment
install:
    pip install -e ".[test,dev]"

test *args:
    pytest {{args}}

lint:
    ruff check .
    ruff format --check .
    mypy

format:
    ruff check --fix .
    ruff format .

demo:
    journeyman demo

# The numbers of docs/results.md (about an hour on 2 cores; needs the public datasets, see benchmarks/README.md)
results data:
    python benchmarks/results.py --bench {{data}}
