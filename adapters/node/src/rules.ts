/**
 * What the application says about its own paths: what to do without an answer, costs, limits, what to leave alone.
 *
 * How much is allowed is not written here. That belongs to the service's policies.
 */

import type { IncomingMessage } from "node:http";

import { ConfigurationError } from "./errors.js";
import type { Changes } from "./headers.js";
import type { Cost, Limit, Settle } from "./limit.js";
import { Local } from "./local.js";

/** Without an answer: let it pass unchecked, refuse it with 503, or count it in this process. */
export type OnUnavailable = "open" | "closed" | Local;

/** A limit on what a socket's client sends. */
export interface Messages {
  policy: string;
  /** Of a message's text or bytes; 1 by itself. */
  cost?: number | ((content: Buffer, isBinary: boolean) => number);
  /** A close code, 4429 by itself, or `drop`: the application does not see the message. */
  onDenied?: number | "drop";
}

/**
 * `path`: `/exact`, `/v1/*` for one segment, `/v1/**` for any depth; methods before it: `POST,PUT /v1/**`. Letters are
 * compared without regard to case, as Express does.
 *
 * The first rule that matches holds; what it leaves undefined is the shield's own.
 */
export interface Rule {
  path: string;
  onUnavailable?: OnUnavailable;
  /** Of a request, for the policies of the service's route and for `limits` without a cost of their own. */
  cost?: Cost<IncomingMessage>;
  /** What it really cost, after the response. */
  settle?: Settle<IncomingMessage>;
  settleWithinMs?: number;
  /** Further policies, in the same call as the route's. */
  limits?: Limit | readonly Limit[];
  deadlineMs?: number;
  /** Asks nothing about the request. */
  skip?: boolean;
  messages?: Messages;
  /** Changes to the response's headers. */
  headers?: Changes;
}

const FORM = /^(?:([A-Z,]+) )?(\/\S*)$/;

/** A rule's `path`, ready to match. */
export class Pattern {
  private readonly methods: ReadonlySet<string>;
  private readonly path: RegExp;

  constructor(text: string) {
    const read = FORM.exec(text);
    if (read === null) {
      throw new ConfigurationError(`rule ${JSON.stringify(text)}: write /path, /path/*, /path/** or \`POST /path\``);
    }
    this.methods = new Set((read[1] ?? "").split(",").filter((method) => method !== ""));
    const pieces = read[2]!.split("/").filter((piece) => piece !== "");
    this.path = new RegExp(`^${pieces.map((piece) => expression(text, piece)).join("") || "/"}$`, "is");
  }

  matches(method: string, path: string): boolean {
    return (this.methods.size === 0 || this.methods.has(method)) && this.path.test(path);
  }
}

function expression(text: string, piece: string): string {
  if (piece === "*") return "/[^/]+";
  if (piece === "**") return "(?:/.*)?";
  if (piece.includes("*")) {
    throw new ConfigurationError(`rule ${JSON.stringify(text)}: \`*\` stands for a whole segment`);
  }
  return `/${piece.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}`;
}

export const ANY: Rule = { path: "/**" };

/** All of them, in order. */
export class Rules {
  private readonly all: readonly { pattern: Pattern; rule: Rule }[];

  constructor(rules: readonly Rule[]) {
    this.all = rules.map((rule) => ({ pattern: new Pattern(rule.path), rule: checked(rule) }));
  }

  /** A path that can be read in two ways is never skipped: what the application makes of it, nobody here knows. */
  find(method: string, sent: string): Rule {
    const path = normalised(sent);
    const found = this.all.find(
      ({ pattern, rule }) => pattern.matches(method, path) && !(rule.skip === true && sent !== path),
    );
    return found?.rule ?? ANY;
  }
}

function checked(rule: Rule): Rule {
  if (rule.onUnavailable !== undefined) readChoice(rule.onUnavailable);
  if (typeof rule.cost === "number" && rule.cost < 0) {
    throw new ConfigurationError(`rule ${JSON.stringify(rule.path)}: cost ${rule.cost} is below 0`);
  }
  return rule;
}

export function readChoice(value: OnUnavailable): OnUnavailable {
  if (value !== "open" && value !== "closed" && !(value instanceof Local)) {
    throw new ConfigurationError(
      `onUnavailable ${JSON.stringify(value)}: write "open", "closed" or local("10/minute")`,
    );
  }
  return value;
}

/** One spelling of a path: decoded, without empty and dot segments and parameters. */
export function normalised(sent: string): string {
  const segments: string[] = [];
  for (const piece of decoded(sent).replaceAll("\\", "/").split("/")) {
    const segment = piece.split(";", 1)[0]!;
    if (segment === "..") segments.pop();
    else if (segment !== "" && segment !== ".") segments.push(segment);
  }
  return `/${segments.join("/")}`;
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
