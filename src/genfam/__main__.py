"""`python -m genfam` is the console script `genfam`."""

import sys

from genfam.commands.cli import main

sys.exit(main())
