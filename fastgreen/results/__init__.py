"""What came out: traces, the result, its tables, and the folder of files that holds a run."""
