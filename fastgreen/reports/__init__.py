"""Reports of finished runs: a page to read and a timeline to open in a trace viewer."""
