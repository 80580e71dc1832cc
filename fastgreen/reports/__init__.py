"""Reports of finished runs: comparison of two, pages, timelines."""
