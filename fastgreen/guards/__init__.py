"""Guards against what comes from outside: arguments, texts, files, signals, and names of `os` that a system lacks."""
