"""How many made-up files or requests each fuzz test tries: few; with ``METATX_FUZZ=10000`` in the environment, more."""

import os

EXAMPLES = int(os.environ.get("METATX_FUZZ", "60"))
