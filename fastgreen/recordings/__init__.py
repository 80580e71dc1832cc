"""Recordings of other tools: reading them, comparing them with ours, writing the published layout."""
