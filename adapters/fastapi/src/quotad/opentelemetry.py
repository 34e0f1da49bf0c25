"""Metrics by the OpenTelemetry API. Needs `quotad[opentelemetry]`.

    Shield(app, on_event=OpenTelemetry())

Labels are outcomes, reasons, modes and names of the configuration, never what a client sent.
"""

from __future__ import annotations

from opentelemetry.metrics import get_meter

from quotad.events import BreakerChanged, Decided, Event, LeaseEnded, Settled, Unavailable


class OpenTelemetry:
    """A callback for `on_event`."""

    def __init__(self) -> None:
        meter = get_meter("quotad")
        self._decisions = meter.create_counter("quotad.decisions", description="Answers of the service")
        self._duration = meter.create_histogram("quotad.decision.duration", unit="s")
        self._unavailable = meter.create_counter("quotad.unavailable", description="Requests without an answer")
        self._breaker = meter.create_counter("quotad.breaker.changes")
        self._leases = meter.create_counter("quotad.leases.ended")
        self._settlements = meter.create_counter("quotad.settlements")

    def __call__(self, event: Event) -> None:
        match event:
            case Decided():
                outcome = "allow" if event.allowed else "deny"
                labels = {"rpc": event.rpc, "outcome": outcome, "reason": event.reason, "mode": event.mode}
                self._decisions.add(1, labels | {"route": event.route})
                self._duration.record(event.seconds, {"rpc": event.rpc})
            case Unavailable():
                self._unavailable.add(1, {"cause": event.cause, "handled": event.handled})
            case BreakerChanged():
                self._breaker.add(1, {"state": "open" if event.is_open else "closed"})
            case LeaseEnded():
                self._leases.add(1, {"state": event.state})
            case Settled():
                self._settlements.add(1, {"state": event.state})
