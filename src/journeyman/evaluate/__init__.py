"""Answerers, held-out rows, graders: scores, and a verdict that holds."""
