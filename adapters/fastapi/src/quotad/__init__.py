"""quotad for ASGI applications: limits, tokens, connection leases, headers and CORS by one small server.

    from quotad import Shield
    app = Shield(app, "127.0.0.1:50051", origins=["https://app.example.com"])

`quotad.fastapi` has dependencies and decorators, `quotad.cookies`, `quotad.types` and `quotad.testing` what their
names say. Nothing here computes a limit: decisions, headers and bodies are the service's answers.
"""

from quotad.charge import Charge, SentResponse
from quotad.claims import Claims
from quotad.context import Context, current
from quotad.decision import Decision, PolicyStatus
from quotad.errors import ConfigurationError, NoDecision, RateLimitExceeded
from quotad.leases import Ended, Lease
from quotad.local import local
from quotad.rules import Messages, Rule
from quotad.settings import Options
from quotad.shield import Shield

__version__ = "0.1.0"
__all__ = [
    "Charge",
    "Claims",
    "ConfigurationError",
    "Context",
    "Decision",
    "Ended",
    "Lease",
    "Messages",
    "NoDecision",
    "Options",
    "PolicyStatus",
    "RateLimitExceeded",
    "Rule",
    "SentResponse",
    "Shield",
    "current",
    "local",
]
