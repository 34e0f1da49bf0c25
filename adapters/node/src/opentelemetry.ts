/**
 * Metrics by the OpenTelemetry API (an optional peer).
 *
 *     new Shield(target, { onEvent: openTelemetry() });
 *
 * Labels are outcomes, reasons, modes and names of the configuration, never what a client sent.
 */

import { metrics } from "@opentelemetry/api";

import type { QuotadEvent } from "./events.js";

/** A callback for `onEvent`. */
export function openTelemetry(): (event: QuotadEvent) => void {
  const meter = metrics.getMeter("quotad");
  const decisions = meter.createCounter("quotad.decisions", { description: "Answers of the service" });
  const duration = meter.createHistogram("quotad.decision.duration", { unit: "s" });
  const unavailable = meter.createCounter("quotad.unavailable", { description: "Requests without an answer" });
  const breaker = meter.createCounter("quotad.breaker.changes");
  const leases = meter.createCounter("quotad.leases.ended");
  const settled = meter.createCounter("quotad.reservations.settled");
  return (event) => {
    switch (event.kind) {
      case "decided": {
        const { rpc, reason, mode, route } = event;
        decisions.add(1, { rpc, outcome: event.allowed ? "allow" : "deny", reason, mode, route });
        duration.record(event.seconds, { rpc });
        break;
      }
      case "unavailable":
        unavailable.add(1, { cause: event.why, handled: event.handled });
        break;
      case "breaker changed":
        breaker.add(1, { state: event.isOpen ? "open" : "closed" });
        break;
      case "lease ended":
        leases.add(1, { state: event.state });
        break;
      case "settled":
        settled.add(1, { state: event.state });
    }
  };
}
