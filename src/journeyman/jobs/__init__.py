"""Jobs: their states, their rows, the process that runs one."""
