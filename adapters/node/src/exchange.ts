/**
 * One HTTP request: asked about once, answered with every header, its leases given back when the response is over.
 *
 * The headers are put on at the moment when a response begins (`writeHead`), whoever answers: the handler, the framework's
 * own 404 and 500, or its router, which throws away what was set before.
 */

import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";

import { Context } from "./context.js";
import type { Decision } from "./decision.js";
import { Face } from "./face.js";
import { Facts } from "./facts.js";
import type { Headers } from "./headers.js";
import type { Ended } from "./leases.js";
import type { Limit } from "./limit.js";
import type { Runtime } from "./runtime.js";
import type { Refusal, Settings } from "./settings.js";

export class Exchange {
  readonly context: Context;
  /** What the response is, if it is a refusal. */
  refused: Decision | undefined;
  /** What a handler threw. */
  thrown: Decision | undefined;
  readonly isPreflight: boolean;
  private readonly face: Face;
  private isCutOff = false;

  constructor(
    private readonly settings: Settings,
    runtime: Runtime,
    request: IncomingMessage,
    private readonly response: ServerResponse,
  ) {
    const facts = new Facts(request);
    const rule = settings.rules.find(facts.method, facts.path);
    this.face = new Face(settings, facts, rule);
    this.context = new Context(settings, runtime, facts, rule);
    this.context.response = response;
    this.context.onLeaseEnd = (how) => this.leaseEnded(how);
    this.isPreflight = facts.isPreflight;
    beforeHead(response, (headers) => this.dress(headers));
    response.once("close", () => this.context.end());
  }

  /** A refusal, or undefined: the application may answer. Preflights are never asked about. */
  async admit(limits: readonly Limit[]): Promise<Decision | undefined> {
    const { facts } = this.context;
    const { bodies } = this.settings;
    let refusal: Decision | undefined;
    if (!facts!.fits) refusal = bodies.tooLarge();
    else if (!facts!.isPlain) refusal = bodies.malformed();
    else refusal = await this.context.admit(limits);
    return this.isCutOff ? undefined : refusal;
  }

  /** Whether the client has left, or has been answered already, while the service was asked. */
  get isAnswered(): boolean {
    return this.context.isOver || this.response.headersSent || this.response.destroyed;
  }

  /** Status and body of a refusal; its headers come by themselves. */
  refusal(decision: Decision): Promise<Refusal> {
    this.refused = decision;
    return this.face.refusal(decision);
  }

  async refuse(decision: Decision): Promise<void> {
    const { status, body, contentType } = await this.refusal(decision);
    const { response } = this;
    if (response.headersSent || response.destroyed) return;
    response.statusCode = status;
    response.setHeader("content-type", contentType);
    response.setHeader("content-length", Buffer.byteLength(body));
    response.end(body);
  }

  private dress(headers: Headers): Headers {
    if (this.isPreflight) return this.face.preflight();
    const { authorized, decisions } = this.context;
    return this.face.dress(headers, { authorized, decisions, refused: this.refused });
  }

  /**
   * A stream of events ends whole, and its client asks again. Any other response breaks off: a short one must not look like
   * a whole one.
   */
  private leaseEnded(how: Ended): void {
    const { response } = this;
    if (this.context.isOver || response.writableEnded) return;
    this.isCutOff = true;
    if (!response.headersSent) {
      const { bodies } = this.settings;
      const refusal = how === "lost" ? bodies.unavailable() : bodies.tokenInvalid();
      void this.refuse(refusal).then(() => silence(response));
      return;
    }
    const isStream = String(response.getHeader("content-type") ?? "").startsWith("text/event-stream");
    if (isStream) response.end();
    else response.destroy();
    silence(response);
  }
}

/** What the handler still writes goes nowhere, and is no error. */
function silence(response: ServerResponse): void {
  response.on("error", () => {});
  response.write = () => false;
  response.end = () => response;
  response.writeHead = () => response;
}

/** Changes a response's headers just before they are sent, once, however they were set. */
export function beforeHead(response: ServerResponse, dress: (headers: Headers) => Headers): void {
  const { writeHead } = response;
  let isDressed = false;
  response.writeHead = function (status: number, ...rest: unknown[]): ServerResponse {
    const reason = typeof rest[0] === "string" ? rest.shift() : undefined;
    const given = rest[0] as OutgoingHttpHeaders | unknown[] | undefined;
    if (given !== undefined && given !== null && !response.headersSent) setAll(response, given);
    if (!isDressed && !response.headersSent) {
      isDressed = true;
      put(response, dress);
    }
    const args: unknown[] = reason === undefined ? [status] : [status, reason];
    return Reflect.apply(writeHead, response, args) as ServerResponse;
  } as ServerResponse["writeHead"];
}

/** As `writeHead` takes them: an object, pairs, or names and values in turn; those of one name replace what was set. */
function setAll(response: ServerResponse, given: OutgoingHttpHeaders | unknown[]): void {
  if (!Array.isArray(given)) {
    for (const [name, value] of Object.entries(given)) if (value !== undefined) response.setHeader(name, value);
    return;
  }
  const flat = (Array.isArray(given[0]) ? given.flat(1) : given) as string[];
  for (let index = 0; index < flat.length; index += 2) response.removeHeader(flat[index]!);
  for (let index = 0; index + 1 < flat.length; index += 2) response.appendHeader(flat[index]!, flat[index + 1]!);
}

function put(response: ServerResponse, dress: (headers: Headers) => Headers): void {
  const before: Headers = Object.entries(response.getHeaders()).flatMap(([name, value]) =>
    [value ?? []].flat().map((one) => [name, String(one)] as const),
  );
  const after = group(dress(before));
  const old = group(before);
  for (const name of old.keys()) if (!after.has(name)) response.removeHeader(name);
  for (const [name, values] of after) {
    if (values.join("\n") !== old.get(name)?.join("\n"))
      response.setHeader(name, values.length === 1 ? values[0]! : values);
  }
}

function group(headers: Headers): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const [name, value] of headers) groups.set(name, [...(groups.get(name) ?? []), value]);
  return groups;
}
