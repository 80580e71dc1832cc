"""Reports of finished runs: a comparison of two, a page to read, a timeline for a trace viewer."""
