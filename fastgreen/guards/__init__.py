"""Guards against the world outside: arguments of the wrong type, text and files of strangers, interrupted threads."""
