"""How many made-up files each fuzz test tries: few by default; ``METATX_FUZZ=10000`` in the environment for a long run."""

import os

EXAMPLES = int(os.environ.get("METATX_FUZZ", "60"))
