"""Run the command where its script is not on PATH: `python -m pulumi_traceloop.cli`."""

from . import main

if __name__ == "__main__":
    main()
