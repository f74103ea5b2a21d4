"""`python -m satjax`: the command where a Python is known and its scripts are not on the path, as within a launcher or a notebook."""

import sys

from satjax.cli import main

if __name__ == "__main__":
    sys.exit(main())
