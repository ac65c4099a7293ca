"""`python -m aioipc` is the command line, `aioipc`."""

from aioipc.cli import main

# A worker started by spawn imports its parent's main module too.
if __name__ == "__main__":
    main()
