"""Guards: checks of arguments, safe handling of untrusted text and files, signals that survive interruption."""
