"""Logs of trainings: checkpoints, gauges of memory, temperature and use, callbacks for trainers."""
