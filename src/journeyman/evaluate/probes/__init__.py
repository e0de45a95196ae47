"""The general probe set, written by hand for this project, as files. `evaluate/probing.py` reads them."""
