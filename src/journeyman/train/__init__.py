"""A plan and a dataset in, checkpoints out. torch starts here."""
