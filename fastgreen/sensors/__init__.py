"""Sensors: which channels this machine has, a file per source, and the rights that reading them takes."""
