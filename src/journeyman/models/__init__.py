"""Bases, model ids and the registry of what came out."""
