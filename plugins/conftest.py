"""Lets the tests of the example packages import them from where they lie, without installing them."""

import sys
from pathlib import Path

sys.path[:0] = [str(folder) for folder in Path(__file__).parent.glob("spamd-*")]
