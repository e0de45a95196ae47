"""Anything that can answer looks the same."""
