"""The terminal's face: parse, one workspace call, show."""
