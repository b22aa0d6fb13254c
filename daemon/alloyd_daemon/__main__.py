"""``python -m alloyd_daemon`` is ``alloyd``."""

import sys

from .main import main

sys.exit(main())
