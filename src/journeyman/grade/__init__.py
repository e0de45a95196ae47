"""Grader objects in OpenAI's form, and what score they give."""
