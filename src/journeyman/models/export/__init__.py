"""Models out of Journeyman: as an adapter, merged weights or GGUF, replayed before they are published."""
