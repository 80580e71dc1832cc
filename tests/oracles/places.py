"""Where things lie: the project, its examples, and the data and cases that stay outside it."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SHARED = Path(os.environ.get("FASTGREEN_SHARED_DATA", ROOT.parent / "shared" / "data"))
CASES = Path(os.environ.get("FASTGREEN_SHARED_CASES", ROOT.parent / "shared" / "cases"))
