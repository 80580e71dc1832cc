"""Measuring: the monitor, its sources, windows, recording and replay."""
