"""Entry point of the test engine's process: `python -m tests.engine`, run by local.py."""

import sys

from .deployment import main

sys.exit(main())
