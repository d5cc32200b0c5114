"""Without the suite there are no cases to collect."""

import os

collect_ignore = [] if os.environ.get("AGENTVM_WASI_TESTSUITE") else ["test_cases.py"]
