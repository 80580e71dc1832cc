"""Recordings of other tools: read them, compare them with fastgreen's, write them in AIPowerMeter's layout."""
