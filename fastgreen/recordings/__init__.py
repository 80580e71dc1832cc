"""Recordings of other tools: read them, compare them with fastgreen's, write them in AIPowerMeter's layout.

Each of these imports only those above it:

``stored_points``     points of channels in constant memory, and their totals
``curve``             cumulative energy of one channel
``recording``         a recording, and the builder that readers fill
``conversion``        a recording as a result, which ``Recording.to_result`` calls
``comparison``        two meters over the same time
``readers/``          a file per format: `read` detects the format; ``tables`` and ``series`` hold what several share
``span_files/``       spans of other tools
``published_layout``  the writer of AIPowerMeter's layout
"""
