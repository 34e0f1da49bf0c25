/** What every response of this application looks like: limit headers, security headers, CORS. */

import type { Decision } from "./decision.js";
import type { Facts } from "./facts.js";
import { changed, combined, isList, replace, SECURITY, TELLTALE, without } from "./headers.js";
import type { Headers } from "./headers.js";
import type { Rule } from "./rules.js";
import type { Refusal, Settings } from "./settings.js";

/** What was decided about a request. */
export interface Answers {
  /** By the service's routes. */
  authorized: Decision | undefined;
  /** By further checks, in order. */
  decisions: readonly Decision[];
  /** What the response is, if it is a refusal. */
  refused: Decision | undefined;
}

/** Of one request. */
export class Face {
  constructor(
    private readonly settings: Settings,
    private readonly facts: Facts,
    private readonly rule: Rule,
  ) {}

  /**
   * `headers` of a response, with all that belongs on it. The service's answer wins over the application, and the
   * application's settings over both.
   */
  dress(headers: Headers, { authorized, decisions, refused }: Answers): Headers {
    const { settings } = this;
    const lists = decisions.map((one) => one.headers.filter(([name]) => isList(name)));
    const isCounted = refused === authorized || (refused !== undefined && decisions.includes(refused));
    const last = refused === undefined || refused === authorized ? [] : refused.headers;
    let told = combined([
      authorized?.headers ?? [],
      ...lists,
      isCounted ? last.filter(([name]) => !isList(name)) : last,
    ]);
    // Where the service was not asked, or did not answer: its defaults.
    if (authorized?.isSecured !== true) told = replace(SECURITY, told);
    let dressed = without(headers, TELLTALE);
    const kept = new Set(dressed.map(([name]) => name).filter((name) => settings.keep.has(name)));
    dressed = replace(
      dressed,
      told.filter(([name]) => !kept.has(name)),
    );
    const changes = Object.entries(settings.changes).filter(([name]) => !kept.has(name.toLowerCase()));
    dressed = changed(dressed, Object.fromEntries(changes));
    dressed = changed(dressed, this.rule.headers ?? {});
    return settings.cors.dress(dressed, this.facts.origin);
  }

  /** The browser's question is no request of the application and counts nowhere. */
  preflight(): Headers {
    const nothing = { authorized: undefined, decisions: [], refused: undefined };
    const dressed = this.dress([], nothing).filter(([name]) => !name.startsWith("access-control-"));
    return [...without(dressed, ["vary"]), ...this.settings.cors.preflight(this.facts.origin ?? "")];
  }

  /** A decision's status and body, or what the application makes of it. */
  async refusal(decision: Decision): Promise<Refusal> {
    if (this.settings.error !== undefined) return this.settings.error(this.facts.request, decision);
    return { status: decision.status, body: decision.body, contentType: decision.contentType };
  }
}
