"""`python -m agentvm`."""

import sys

from agentvm.cli.main import main

sys.exit(main())
