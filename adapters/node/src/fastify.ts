/**
 * The plugin for Fastify 5.
 *
 *     await app.register(plugin(shield));   // before the routes
 *     app.post("/login", { config: { quotad: limit("auth-per-ip") } }, handler);
 */

import type { IncomingMessage, ServerResponse } from "node:http";

import type { FastifyPluginCallback, FastifyReply, FastifyRequest } from "fastify";

import type { Context } from "./context.js";
import type { Decision } from "./decision.js";
import { MARK, RateLimitExceeded } from "./errors.js";
import type { Exchange } from "./exchange.js";
import type { Limit } from "./limit.js";
import type { Shield } from "./shield.js";

declare module "fastify" {
  interface FastifyRequest {
    quotad: Context;
  }
  interface FastifyContextConfig {
    quotad?: Limit | readonly Limit[];
  }
}

export function plugin(shield: Shield): FastifyPluginCallback {
  const exchanges = new WeakMap<IncomingMessage, Exchange>();

  const exchangeOf = (request: IncomingMessage, response: ServerResponse): Exchange => {
    let exchange = exchanges.get(request);
    if (exchange === undefined) {
      exchange = shield.exchange(request, response);
      exchanges.set(request, exchange);
    }
    return exchange;
  };

  const send = async (exchange: Exchange, reply: FastifyReply, decision: Decision): Promise<FastifyReply> => {
    const { status, body, contentType } = await exchange.refusal(decision);
    return reply.code(status).header("content-type", contentType).send(body);
  };

  const install: FastifyPluginCallback = (app, _options, done) => {
    app.decorateRequest("quotad", null as unknown as Context);
    // Also for what the router answers before any hook, such as to a path that cannot be decoded.
    app.server.prependListener("request", exchangeOf);
    shield.attach(app.server);

    app.addHook("onRequest", async (request, reply) => {
      const exchange = exchangeOf(request.raw, reply.raw);
      request.quotad = exchange.context;
      exchange.context.request = request;
      if (exchange.isPreflight) return reply.code(204).send();
      const refusal = await exchange.admit(limits(request).filter(({ along }) => along !== undefined));
      if (exchange.isAnswered) return reply.hijack();
      return refusal === undefined ? undefined : send(exchange, reply, refusal);
    });

    // These may look at the body.
    app.addHook("preHandler", async (request) => {
      for (const limit of limits(request)) if (limit.along === undefined) await request.quotad.demand(limit, request);
    });

    // Not by an error handler, which is the application's: what that does not answer, Fastify answers, with the error's
    // headers, and by one of these its answer is known and replaced by the service's.
    app.addHook("onError", async (request, reply, error) => {
      if (error instanceof RateLimitExceeded) exchangeOf(request.raw, reply.raw).thrown = error.decision;
    });
    app.addHook("onSend", async (request, reply, payload) => {
      const exchange = exchangeOf(request.raw, reply.raw);
      if (exchange.thrown === undefined || !reply.hasHeader(MARK)) return payload;
      const { status, body, contentType } = await exchange.refusal(exchange.thrown);
      reply.code(status).header("content-type", contentType).header("content-length", Buffer.byteLength(body));
      return body;
    });

    app.addHook("onReady", async () => {
      if (app.hasPlugin("@fastify/cors")) {
        shield.settings.notices.once(
          "W106",
          "the application uses @fastify/cors too; only the shield's headers are sent",
        );
      }
      await shield.ready();
    });
    app.addHook("preClose", async () => shield.closeSockets());
    app.addHook("onClose", () => shield.close());
    done();
  };
  // For all of the application, not for what is registered inside.
  return Object.assign(install, {
    [Symbol.for("skip-override")]: true,
    [Symbol.for("fastify.display-name")]: "quotad",
  });
}

function limits(request: FastifyRequest): readonly Limit[] {
  const quotad = request.routeOptions.config?.quotad;
  return quotad === undefined ? [] : Array.isArray(quotad) ? quotad : [quotad as Limit];
}
