"""The HTTP face: parse, one workspace call, show."""
