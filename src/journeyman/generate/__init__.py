"""Answering: sampling, batches, adapters on one base."""
