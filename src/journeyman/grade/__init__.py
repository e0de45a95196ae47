"""Grader objects, OpenAI's and ours, to a score."""
