"""The rules: why a row is refused, and what is suspicious about a dataset."""
