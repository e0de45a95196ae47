"""Rows in, a frozen dataset out. No torch, no tokenizer."""
