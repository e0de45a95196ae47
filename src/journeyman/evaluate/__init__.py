"""Answerers on held-out rows, scores, statistics."""
