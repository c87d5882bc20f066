"""``python -m overproof`` is ``overproof``."""

from overproof.cli.main import main

main()
