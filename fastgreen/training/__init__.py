"""Training: the log of checkpoints, gauges of what is slow to read, callbacks for trainers."""
