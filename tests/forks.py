"""Processes for tests, forked from one that has imported everything and used no thread: a start takes no second.

That one finds the tests in the working directory: from another than the repository's, each start imports anew.
"""

import os
from multiprocessing import get_context

CONTEXT = get_context("forkserver" if os.name == "posix" else "spawn")
CONTEXT.set_forkserver_preload(["tests.soak.kills", "tests.hostile.readers"])
