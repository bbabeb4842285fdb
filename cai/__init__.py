"""`cai`: a constitution in plain text, an AI judge that reads it, and a controlled comparison with human labels."""

import sys

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"]:  # `python -m cai.ROOM` (Python's mark until it has found the module): before any import
    from cai.core.errors import quiet_interrupts

    quiet_interrupts()
