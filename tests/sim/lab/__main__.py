"""``python -m tests.sim.lab``: see `tests.sim.lab.soak`."""

from __future__ import annotations

import sys

from tests.sim.lab.soak import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
