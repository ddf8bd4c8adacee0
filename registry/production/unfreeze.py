"""Lift a freeze: resume automatic removal of a category."""

import sys

from upheld.registry.production import freeze

main = freeze.changing("unfreeze")


if __name__ == "__main__":
    sys.exit(main())
