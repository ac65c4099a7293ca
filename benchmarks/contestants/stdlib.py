"""Plain blocking `multiprocessing`: what everyone else is compared with."""

from benchmarks.contestants import LinkContestant

BLOCKING = LinkContestant("blocking", loop=None)
