"""``python -m ecoimpact.cli`` is the same as ``ecoimpact``."""

from ecoimpact.cli import main

main()
