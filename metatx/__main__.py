"""``python -m metatx``: the command line, for launchers that start modules, such as ``torchrun -m metatx``."""

from metatx.cli import main

main()
