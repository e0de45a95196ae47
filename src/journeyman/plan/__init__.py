"""What will be done and why, before a weight is loaded."""
