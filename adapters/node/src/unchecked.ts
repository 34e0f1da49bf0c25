/**
 * What a request gets that nobody decided about.
 *
 * Must never: let pass what a client brought about itself, by sending what the service cannot take; nor call an outage a
 * 429 when nothing was counted.
 */

import type { IncomingMessage } from "node:http";

import { subscriber } from "./address.js";
import { passed } from "./bodies.js";
import type { Bodies } from "./bodies.js";
import type { Decision } from "./decision.js";
import type { NoDecision } from "./errors.js";
import type { Events } from "./events.js";
import { Local } from "./local.js";
import type { OnUnavailable } from "./rules.js";

/** One request without an answer. `client` is its address, empty when there is none. */
export interface Unanswered {
  readonly choice: OnUnavailable;
  readonly error: NoDecision;
  readonly cost: number;
  readonly client: string;
  readonly request: IncomingMessage | undefined;
}

export async function unchecked(asked: Unanswered, bodies: Bodies, events: Events): Promise<Decision> {
  const { choice, error } = asked;
  const told = (handled: "open" | "closed" | "local", decision: Decision): Decision => {
    events.emit({ kind: "unavailable", why: error.why, handled });
    return decision;
  };
  if (error.why === "malformed") return told("closed", bodies.malformed());
  if (error.why === "not configured") return told("closed", bodies.notConfigured());
  if (choice instanceof Local) return told("local", await countHere(choice, asked, bodies));
  if (choice === "open") return told("open", passed("failed_open"));
  return told("closed", bodies.unavailable());
}

async function countHere(choice: Local, { client, request, cost }: Unanswered, bodies: Bodies): Promise<Decision> {
  const own = choice.key !== undefined && request !== undefined ? choice.key(request) : undefined;
  const verdict = await choice.hit(own ?? (client === "" ? "unknown" : subscriber(client)), cost);
  return verdict.allowed ? passed("local") : bodies.limitedHere(verdict.retryAfterSeconds);
}
