"""The checker of the promises L1 to L7, which docs/reliability.md explains.

The evidence is the state of a system at one moment. It is read from the in-memory fakes or from the real parts.
`violations` is a pure function: it gets evidence and returns the broken promises.
"""

from anb_core.testing.promises.checking import Violation, check_promises, violations
from anb_core.testing.promises.evidence import Evidence, Shown
from anb_core.testing.promises.reading import in_memory_evidence, read_evidence

__all__ = [
    "Evidence",
    "Shown",
    "Violation",
    "check_promises",
    "in_memory_evidence",
    "read_evidence",
    "violations",
]
