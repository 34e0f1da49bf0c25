/**
 * The middleware for Express 5.
 *
 *     app.use(middleware(shield));   // first of all
 */

import type { ErrorRequestHandler, RequestHandler } from "express";

import type { Context } from "./context.js";
import { RateLimitExceeded } from "./errors.js";
import type { Exchange } from "./exchange.js";
import type { Shield } from "./shield.js";

declare global {
  namespace Express {
    interface Request {
      quotad: Context;
    }
  }
}

const exchanges = new WeakMap<object, Exchange>();

/**
 * Asks about every request before the rest of the application sees it, and puts the headers on every answer.
 *
 * At its first request it adds the handler of `RateLimitExceeded` behind everything else that the application has.
 */
export function middleware(shield: Shield): RequestHandler {
  const seen = new WeakSet<object>();
  return (request, response, next): void => {
    if (!seen.has(request.app)) {
      seen.add(request.app);
      lookAt(request.app, shield);
      request.app.use(refusals());
    }
    // Mounted in two places, it asks once.
    if (exchanges.has(request)) return next();
    const exchange = shield.exchange(request, response);
    exchanges.set(request, exchange);
    request.quotad = exchange.context;
    exchange.context.request = request;
    void answer(exchange, response, next);
  };
}

async function answer(
  exchange: Exchange,
  response: import("express").Response,
  next: (error?: unknown) => void,
): Promise<void> {
  try {
    if (exchange.isPreflight) {
      response.writeHead(204).end();
      return;
    }
    const refusal = await exchange.admit([]);
    if (exchange.isAnswered) return;
    if (refusal !== undefined) {
      await exchange.refuse(refusal);
      return;
    }
  } catch (error) {
    next(error);
    return;
  }
  next();
}

/** Sends the service's own answer where a check was refused. `middleware` adds it by itself. */
export function refusals(): ErrorRequestHandler {
  return (error: unknown, request, response, next): void => {
    const exchange = exchanges.get(request);
    if (!(error instanceof RateLimitExceeded) || exchange === undefined || response.headersSent) {
      next(error);
      return;
    }
    exchange.refuse(error.decision).catch(next);
  };
}

function lookAt(app: import("express").Application, shield: Shield): void {
  const { stack } = app.router as unknown as { stack: readonly { name: string }[] };
  if (stack.some(({ name }) => name === "corsMiddleware")) {
    shield.settings.notices.once("W106", "the application uses cors() too; only the shield's headers are sent");
  }
}
