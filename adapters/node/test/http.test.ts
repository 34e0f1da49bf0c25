/** HTTP, by Express and by Fastify: one answer of the service a request, all headers on every response. */

import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";

import cors from "cors";
import express from "express";
import Fastify from "fastify";

import type { Options, QuotadEvent } from "quotad";
import { limit, RateLimitExceeded, Shield } from "quotad";
import { middleware } from "quotad/express";
import { plugin } from "quotad/fastify";

import { cookie, FRAMEWORKS, make } from "./sample.js";
import type { Sample } from "./sample.js";
import { address, ask, bearer, ORIGIN, portOf, Redis, running, shieldOn, Socket, someone, token } from "./support.js";
import type { Quotad } from "./support.js";

const SECURITY: Readonly<Record<string, string>> = {
  "strict-transport-security": "max-age=63072000; includeSubDomains",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "strict-origin-when-cross-origin",
};
const PREFLIGHT = { "access-control-request-method": "POST", "access-control-request-headers": "content-type" };
const trusting = { trustedProxies: ["127.0.0.0/8"] };

for (const framework of FRAMEWORKS) {
  describe(framework, () => {
    let quotad: Quotad;
    before(async () => (quotad = await running()));
    after(() => quotad.stop());

    const served = async (
      work: (port: number, shield: Shield, sample: Sample) => Promise<void>,
      options: Options = {},
    ) => {
      const shield = shieldOn(quotad.target, { ...trusting, warn: () => {}, ...options });
      const sample = await make(framework, shield);
      try {
        await work(sample.port, shield, sample);
      } finally {
        await sample.close();
      }
    };

    test("the fourth login of an address is refused with the service's own bytes", () =>
      served(async (port) => {
        const peer = { "x-forwarded-for": address() };
        for (const left of [2, 1, 0]) {
          const answer = await ask(port, "POST", "/login", { headers: peer });
          assert.deepEqual([answer.status, answer.json()], [200, { hello: "world" }]);
          assert.ok(answer.one("ratelimit").startsWith(`"auth-per-ip";r=${left};t=`));
          assert.equal(answer.one("ratelimit-policy"), '"auth-per-ip";q=3;w=86400');
          assert.deepEqual(answer.all("retry-after"), []);
        }
        const refused = await ask(port, "POST", "/signup", { headers: { ...peer, origin: ORIGIN } });
        assert.equal(refused.status, 429);
        assert.equal(refused.one("content-type"), "application/json");
        assert.equal(refused.one("content-length"), String(Buffer.byteLength(refused.body)));
        assert.ok(Number(refused.one("retry-after")) > 86_000);
        assert.equal(refused.one("cache-control"), "no-store");
        assert.equal(refused.one("access-control-allow-origin"), ORIGIN);
        assert.ok(refused.body.startsWith('{"status":"error","code":"RATE_LIMIT_EXCEEDED","message":"Too many'));
        assert.equal((await ask(port, "POST", "/login")).status, 200, "another address");
      }));

    test("every response has each header once", () =>
      served(async (port) => {
        const cases: [string, string, number][] = [
          ["GET", "/plain", 200],
          ["HEAD", "/plain", 200],
          ["GET", "/nowhere", 404],
          ["DELETE", "/plain", 404],
          ["GET", "/boom", 500],
          ["GET", "/mounted/nowhere", 404],
          ["GET", "/me", 401],
          ["GET", "/%zz", framework === "Fastify" ? 400 : 404],
        ];
        for (const [method, path, status] of cases) {
          const answer = await ask(port, method, path, { headers: { origin: ORIGIN } });
          assert.equal(answer.status, status, `${method} ${path} ${answer.body}`);
          for (const [name, value] of Object.entries(SECURITY)) assert.equal(answer.one(name), value);
          assert.equal(answer.one("access-control-allow-origin"), ORIGIN);
          assert.equal(answer.one("access-control-allow-credentials"), "true");
          assert.equal(answer.one("access-control-expose-headers"), "RateLimit, RateLimit-Policy, Retry-After");
          assert.equal(answer.one("vary"), "Origin");
          const names = answer.headers.map(([name]) => name);
          assert.equal(names.length, new Set(names).size, String(names));
          assert.deepEqual(answer.all("x-powered-by"), []);
        }
      }));

    test("the application's own headers are replaced or kept but never doubled", async () => {
      await served(async (port) => {
        const answer = await ask(port, "GET", "/own-headers", { headers: { origin: ORIGIN } });
        assert.equal(answer.one("x-frame-options"), "DENY");
        assert.equal(answer.one("vary"), "Accept, Origin");
        assert.equal(answer.one("access-control-allow-origin"), ORIGIN);
        assert.deepEqual([answer.all("server"), answer.all("x-powered-by")], [[], []]);
      });
      const securityHeaders = { "Referrer-Policy": null, "X-A": "b", "X-Frame-Options": "other" };
      const rules = [{ path: "/plain", headers: { "Content-Security-Policy": null, "X-Rule": "c" } }];
      await served(
        async (port) => {
          const kept = await ask(port, "GET", "/own-headers");
          assert.equal(kept.one("x-frame-options"), "SAMEORIGIN");
          assert.deepEqual(kept.all("referrer-policy"), []);
          assert.equal(kept.one("x-a"), "b");
          const ruled = await ask(port, "GET", "/plain");
          assert.deepEqual([ruled.all("content-security-policy"), ruled.one("x-rule")], [[], "c"]);
        },
        { keepHeaders: ["X-Frame-Options"], securityHeaders, rules },
      );
    });

    test("a preflight is answered before anything is counted", () =>
      served(async (port) => {
        const peer = { "x-forwarded-for": address() };
        for (let round = 0; round < 5; round += 1) {
          const answer = await ask(port, "OPTIONS", "/login", { headers: { ...PREFLIGHT, ...peer, origin: ORIGIN } });
          assert.deepEqual([answer.status, answer.body, answer.one("vary")], [204, "", "Origin"]);
          assert.equal(answer.one("access-control-allow-origin"), ORIGIN);
          assert.equal(answer.one("x-frame-options"), "DENY");
          assert.deepEqual(answer.all("access-control-expose-headers"), []);
        }
        const login = await ask(port, "POST", "/login", { headers: peer });
        assert.ok(login.one("ratelimit").startsWith('"auth-per-ip";r=2'));
      }));

    test("a foreign origin gets no CORS header and no error", () =>
      served(async (port) => {
        for (const origin of ["https://evil.example", "null", "https://app.example.com.evil.example", "*"]) {
          for (const [method, more] of [
            ["OPTIONS", PREFLIGHT],
            ["GET", {}],
          ] as const) {
            const answer = await ask(port, method, "/plain", { headers: { ...more, origin } });
            assert.ok([200, 204].includes(answer.status));
            assert.deepEqual(
              answer.headers.filter(([name]) => name.startsWith("access-control-")),
              [],
            );
            assert.equal(answer.one("vary"), "Origin");
          }
        }
      }));

    test("CORS switched off takes the application's own away too", () =>
      served(
        async (port) => {
          const answer = await ask(port, "GET", "/own-headers", { headers: { origin: ORIGIN } });
          assert.deepEqual(
            answer.headers.filter(([name]) => name.startsWith("access-control-")),
            [],
          );
        },
        { cors: "off", origins: [] },
      ));

    test("identity headers are the service's word", () =>
      served(async (port) => {
        const forged = { "x-user-id": "admin", x_user_id: "admin", "X-USER_ID": "admin" };
        const nobody = await ask(port, "GET", "/plain", { headers: forged });
        assert.deepEqual(nobody.json(), { user: null, forged: null });
        const answer = await ask(port, "POST", "/ai/translate", { headers: { ...forged, ...bearer("alice") } });
        assert.deepEqual([answer.status, answer.json()], [200, { user: "alice", forged: null }]);
      }));

    test("tokens are checked by the route and their claims are handed over", () =>
      served(async (port) => {
        const missing = await ask(port, "GET", "/me");
        assert.deepEqual([missing.status, missing.one("www-authenticate")], [401, "Bearer"]);
        assert.equal(missing.json().code, "TOKEN_MISSING");
        const wrong = await ask(port, "GET", "/me", { headers: { authorization: `Bearer ${token("a")}x` } });
        assert.deepEqual([wrong.status, wrong.json().code], [401, "TOKEN_INVALID"]);
        const good = await ask(port, "GET", "/me", { headers: bearer("alice", { plan: "gold" }) });
        assert.deepEqual([good.status, good.json()], [200, { user: "alice", plan: "gold" }]);
        assert.deepEqual((await ask(port, "GET", "/maybe")).json(), { user: null });
        assert.deepEqual((await ask(port, "GET", "/maybe", { headers: bearer("bob") })).json(), { user: "bob" });
      }));

    for (const path of ["/limited", "/mounted/limited"]) {
      test(`a limit of ${path} refuses with the service's answer`, () =>
        served(async (port) => {
          const headers = { "x-forwarded-for": address() };
          for (let round = 0; round < 3; round += 1) {
            const answer = await ask(port, "POST", path, { headers });
            assert.deepEqual([answer.status, answer.json()], [200, { hello: "world" }]);
            assert.equal(answer.one("ratelimit-policy"), '"auth-per-ip";q=3;w=86400');
          }
          const refused = await ask(port, "POST", path, { headers });
          assert.deepEqual([refused.status, refused.json().code], [429, "RATE_LIMIT_EXCEEDED"]);
          for (const name of ["retry-after", "ratelimit", "content-length", ...Object.keys(SECURITY)])
            refused.one(name);
          assert.equal(refused.one("content-type"), "application/json");
          assert.equal(refused.one("cache-control"), "no-store");
        }));
    }

    test("a limit takes entries, cost and skip from the request", () =>
      served(async (port) => {
        const account = someone();
        assert.equal((await ask(port, "POST", `/account?account=${account}&cost=2`)).status, 200);
        assert.equal((await ask(port, "POST", `/account?account=${account}`)).status, 429);
        const skipped = await ask(port, "POST", `/account?account=${account}`, { headers: { "x-skip": "yes" } });
        assert.equal(skipped.status, 200);
        assert.equal((await ask(port, "POST", `/account?account=${someone()}`)).status, 200);
        const long = await ask(port, "POST", `/account?account=${"x".repeat(300)}`);
        assert.deepEqual([long.status, long.json().code], [400, "REQUEST_MALFORMED"]);
      }));

    test("a constant entry of a limit replaces what the request says itself", () =>
      served(async (port) => {
        for (const left of [4, 3]) {
          const answer = await ask(port, "POST", "/maybe", { headers: bearer(someone()) });
          assert.ok(answer.one("ratelimit").startsWith(`"ai-per-user";r=${left};`), answer.one("ratelimit"));
        }
      }));

    test("a handler peeks without charging and checks with a cost", () =>
      served(async (port) => {
        const path = `/inside?account=${someone()}`;
        assert.deepEqual((await ask(port, "GET", path)).json(), { left: [2, 0, 0], after: false });
        assert.equal((await ask(port, "GET", path)).status, 429);
      }));

    test("one call a request; a limit goes along where it is known in time", () => {
      const calls: string[] = [];
      const rules = [{ path: "POST /signup", limits: limit("per-account", { by: { account: someone() } }) }];
      return served(
        async (port) => {
          const counted = async (...asked: Parameters<typeof ask>) => {
            calls.length = 0;
            return ask(...asked);
          };
          await counted(port, "POST", "/login");
          assert.deepEqual(calls, ["Authorize"]);
          const ruled = await counted(port, "POST", "/signup");
          assert.deepEqual(calls, ["Authorize"]);
          const both = '"auth-per-ip";q=3;w=86400, "per-account";q=2;w=86400';
          assert.deepEqual([ruled.status, ruled.one("ratelimit-policy")], [200, both]);
          await counted(port, "POST", "/limited");
          assert.deepEqual(calls, framework === "Fastify" ? ["Authorize"] : ["Authorize", "CheckLimit"]);
          await counted(port, "POST", "/account?account=x");
          assert.deepEqual(calls, ["Authorize", "CheckLimit"]);
        },
        { rules, onEvent: (event) => void (event.kind === "decided" && calls.push(event.rpc)) },
      );
    });

    test("without Authorize a limit is the only call", () => {
      const calls: string[] = [];
      return served(
        async (port) => {
          const answer = await ask(port, "POST", "/limited");
          assert.deepEqual([calls, answer.status, answer.one("x-frame-options")], [["CheckLimit"], 200, "DENY"]);
        },
        { authorize: false, onEvent: (event) => void (event.kind === "decided" && calls.push(event.rpc)) },
      );
    });

    test("the headers of a route and of a limit are one list", () =>
      served(async (port) => {
        const headers = { ...bearer(someone()), "x-forwarded-for": address() };
        const answer = await ask(port, "POST", "/ai/both", { headers });
        // In one call in the order of the configuration, in two as they were asked.
        const lists = ['"auth-per-ip";q=3;w=86400', '"ai-per-user";q=5;w=86400'];
        const expected = framework === "Fastify" ? lists : lists.reverse();
        assert.equal(answer.one("ratelimit-policy"), expected.join(", "));
        for (let round = 0; round < 2; round += 1) await ask(port, "POST", "/ai/both", { headers });
        const refused = await ask(port, "POST", "/ai/both", { headers });
        assert.deepEqual([refused.status, refused.one("ratelimit-policy")], [429, expected.join(", ")]);
        refused.one("retry-after");
      }));

    test("a rule says what a request of a route costs", () =>
      served(
        async (port) => {
          const headers = { "x-forwarded-for": address() };
          const first = await ask(port, "POST", "/login?ab", { headers });
          assert.ok(first.one("ratelimit").startsWith('"auth-per-ip";r=1'));
          assert.equal((await ask(port, "POST", "/login?ab", { headers })).status, 429);
          assert.equal((await ask(port, "POST", "/login?a", { headers })).status, 200);
        },
        { rules: [{ path: "POST /login", cost: (request) => request.url!.split("?")[1]!.length }] },
      ));

    test("what a client can make too large or unreadable is refused and never let pass", () =>
      served(
        async (port) => {
          const many = Object.fromEntries(Array.from({ length: 300 }, (_, number) => [`x-${number}`, "y"]));
          assert.equal((await ask(port, "GET", "/me", { headers: many })).status, 431);
          const large = await ask(port, "GET", "/me", { headers: { cookie: "c".repeat(50_000) } });
          assert.deepEqual([large.status, large.one("x-frame-options")], [431, "DENY"]);
          assert.equal(large.one("cache-control"), "no-store");
          assert.equal((await ask(port, "GET", "/me", { headers: { host: "h".repeat(300) } })).status, 400);
          // Each is `/me` to one reader and something else to another.
          for (const target of ["http://x/me", "http://x?a=/me", "/me#a", "/me\u00a0", "/me\u00ff"]) {
            const answer = await raw(port, `GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
            assert.match(answer, /^HTTP\/1\.1 400 [^]*x-frame-options: DENY/i, target);
          }
        },
        { onUnavailable: "open" },
      ));

    test("an unknown policy is 503 and never let pass", () =>
      served(
        async (port) => {
          const answer = await ask(port, "POST", "/typo");
          assert.deepEqual([answer.status, answer.json().code], [503, "NOT_CONFIGURED"]);
        },
        { onUnavailable: "open" },
      ));

    test("an error builder makes the body", () =>
      served(
        async (port) => {
          const answer = await ask(port, "GET", "/me");
          assert.deepEqual([answer.status, answer.body], [401, "<p>token_missing</p>"]);
          assert.equal(answer.one("content-type"), "text/html");
          assert.equal(answer.one("www-authenticate"), "Bearer");
        },
        {
          error: async (_, decision) => {
            return { status: decision.status, body: `<p>${decision.reason}</p>`, contentType: "text/html" };
          },
        },
      ));

    test("a skipped path asks nothing and still believes no identity header", () =>
      served(
        async (port, shield) => {
          const headers = { "x-user-id": "admin", x_user_id: "admin" };
          const answer = await ask(port, "GET", "/plain", { headers });
          assert.deepEqual([answer.status, answer.json()], [200, { user: null, forged: null }]);
          assert.equal(answer.one("x-frame-options"), "DENY");
          assert.equal((await ask(port, "GET", "/PLAIN")).status, framework === "Express" ? 200 : 404);
          assert.equal(shield.runtime.client.breaker.isOpen, false);
        },
        { rules: [{ path: "/plain", skip: true }] },
      ));

    test("everything that charges has a request id of its own", () => {
      const ids: string[] = [];
      return served(async (port, shield) => {
        const { client } = shield.runtime;
        const call = client.call.bind(client);
        client.call = (rpc, request, timeout) => {
          ids.push((request as { requestId: string }).requestId);
          return call(rpc, request, timeout);
        };
        for (const path of ["/login", "/mounted/limited", `/account?account=${someone()}`]) {
          await ask(port, "POST", path, { headers: { "x-request-id": "chosen by the client" } });
        }
        assert.equal(ids.length, 5);
        assert.equal(new Set(ids).size, 5);
        assert.ok(ids.every((id) => /^[0-9a-f]{32}$/.test(id)));
      }, {});
    });

    test("usual mistakes are warned of once", async () => {
      const said: string[] = [];
      const warn = (text: string): void => void said.push(/W\d{3}/.exec(text)![0]);
      await served(
        async (port) => {
          for (let round = 0; round < 2; round += 1) assert.equal((await ask(port, "POST", "/by-user")).status, 403);
        },
        { warn, trustedProxies: ["0.0.0.0/0"], onUnavailable: "open" },
      );
      await served(
        async (port) => {
          for (let round = 0; round < 2; round += 1) await ask(port, "POST", "/mounted/limited");
        },
        { warn, trustedProxies: [] },
      );
      assert.deepEqual(said.sort(), ["W101", "W102", "W103", "W109"]);
    });

    test("an event says what was decided", () => {
      const events: QuotadEvent[] = [];
      return served(
        async (port) => {
          await ask(port, "POST", "/login");
          await ask(port, "GET", "/me");
          const [allowed, denied] = events;
          assert.ok(allowed?.kind === "decided" && denied?.kind === "decided");
          const { rpc, route, policies, seconds } = allowed;
          assert.deepEqual([rpc, allowed.allowed, route, policies], ["Authorize", true, "auth", ["auth-per-ip"]]);
          assert.deepEqual([denied.allowed, denied.reason, denied.route], [false, "token_missing", "me"]);
          assert.ok(seconds > 0 && seconds < 10);
        },
        { onEvent: (event) => events.push(event) },
      );
    });

    for (const everywhere of [false, true]) {
      test(`logout ${everywhere ? "everywhere " : ""}revokes, deletes the cookie and closes the sockets`, () =>
        served(async (port, shield) => {
          const user = someone();
          const [here, other] = [bearer(user), bearer(user)];
          const own = await Socket.open(port, "/ws/silent", here);
          const others = await Socket.open(port, "/ws/silent", other);
          const answer = await ask(port, "POST", `/me?everywhere=${everywhere ? 1 : 0}`, { headers: here });
          assert.equal(answer.status, 200);
          assert.equal(answer.one("set-cookie"), cookie.header("", 0));
          // At once, not at the next renewal.
          assert.equal(shield.runtime.keeper.size, everywhere ? 0 : 1);
          assert.equal((await ask(port, "GET", "/me", { headers: here })).status, 401);
          assert.equal(await own.closed(), 4401);
          if (everywhere) assert.equal(await others.closed(), 4401);
          assert.equal((await ask(port, "GET", "/me", { headers: other })).status, everywhere ? 401 : 200);
          others.vanish();
        }));
    }

    test("logging out without a token is 401", () =>
      served(async (port) => assert.equal((await ask(port, "POST", "/me")).status, 401)));
  });
}

/** What comes back for bytes as they are. */
function raw(port: number, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const client = connect(port, "127.0.0.1", () => client.write(bytes, "latin1"));
    client.on("data", (data) => (text += data.toString("latin1")));
    client.on("error", reject).on("close", () => resolve(text));
  });
}

test("revocation keys of the application itself keep working", async () => {
  const redis = await Redis.start();
  const withKey = (text: string): string =>
    text.replace("    issuer:", '    revoked_key: "blacklisted_access_token:{jti}"\n    issuer:');
  const quotad = await running(redis.url, withKey);
  const sample = await make("Express", shieldOn(quotad.target));
  const id = someone();
  const headers = bearer("alice", { jti: id });
  assert.equal((await ask(sample.port, "GET", "/me", { headers })).status, 200);
  assert.match(await redis.command("SET", `blacklisted_access_token:${id}`, "1", "EX", "60"), /^\+OK/);
  assert.equal((await ask(sample.port, "GET", "/me", { headers })).status, 401);
  await sample.close();
  await quotad.stop();
  await redis.stop();
});

test("an error handler of the application sees a refusal first", async () => {
  const quotad = await running();
  const seen: string[] = [];
  const app = express();
  const shield = shieldOn(quotad.target);
  app.use(middleware(shield));
  const all = limit("per-account", { cost: 3, by: { account: "own" } });
  app.get("/own", all, () => {});
  app.get("/passed-on", all, () => {});
  app.use(((error, request, response, next) => {
    seen.push(error.constructor.name);
    if (request.path === "/own") response.status(error.status).json({ wait: error.decision.retryAfterSeconds ?? null });
    else next(error);
  }) satisfies express.ErrorRequestHandler);
  const server = app.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const own = await ask(portOf(server), "GET", "/own");
  assert.deepEqual([own.status, own.json(), own.one("x-frame-options")], [429, { wait: null }, "DENY"]);
  const passed = await ask(portOf(server), "GET", "/passed-on");
  assert.deepEqual([passed.status, passed.json().code], [429, "RATE_LIMIT_EXCEEDED"]);
  assert.deepEqual(seen, [RateLimitExceeded.name, RateLimitExceeded.name]);
  server.close();

  const fastify = Fastify();
  await fastify.register(plugin(shieldOn(quotad.target)));
  fastify.setErrorHandler(async (error: RateLimitExceeded, request, reply) => {
    if (request.url === "/own") return reply.code(error.statusCode).send({ mine: true });
    throw error;
  });
  for (const path of ["/own", "/passed-on"]) fastify.get(path, { config: { quotad: all } }, async () => "in");
  const mine = await fastify.inject("/own");
  assert.deepEqual([mine.statusCode, mine.json(), mine.headers["x-frame-options"]], [429, { mine: true }, "DENY"]);
  const thrown = await fastify.inject("/passed-on");
  assert.deepEqual([thrown.statusCode, thrown.json().code], [429, "RATE_LIMIT_EXCEEDED"]);
  await fastify.close();
  await shield.close();
  await quotad.stop();
});

test("another CORS middleware is warned of, and its headers are replaced", async () => {
  const quotad = await running();
  const said: string[] = [];
  const shield = shieldOn(quotad.target, { warn: (text) => void said.push(text), cors: "off" });
  const app = express();
  app.use(middleware(shield));
  app.use(cors());
  app.get("/plain", (_, response) => void response.send("in"));
  const server = app.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const answer = await ask(portOf(server), "GET", "/plain", { headers: { origin: "https://evil.example" } });
  assert.deepEqual(answer.all("access-control-allow-origin"), []);
  assert.match(said.join("\n"), /W106/);
  server.close();
  await shield.close();
  const other = Fastify();
  await other.register(plugin(shieldOn(quotad.target, { warn: (text) => void said.push(`fastify ${text}`) })));
  await other.register((await import("@fastify/cors")).default);
  await other.ready();
  assert.match(said.join("\n"), /fastify quotad: W106/);
  await other.close();
  await quotad.stop();
});

test("without a shield a limit says so", async () => {
  const app = express();
  app.set("env", "test");
  const errors: Error[] = [];
  app.post("/", limit("auth-per-ip"), () => {});
  app.use(((error, _request, response, _next) => {
    errors.push(error);
    response.sendStatus(500);
  }) satisfies express.ErrorRequestHandler);
  const server = app.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  assert.equal((await ask(portOf(server), "POST", "/")).status, 500);
  assert.match(errors[0]!.message, /middleware\(shield\)/);
  server.close();
});

test("a job outside of any request checks by its entries", async () => {
  const quotad = await running();
  const shield = shieldOn(quotad.target);
  const entries = { account: someone() };
  assert.equal((await shield.check("per-account", { cost: 2, entries })).statuses[0]!.remaining, 0);
  await assert.rejects(shield.check("per-account", { entries }), RateLimitExceeded);
  await shield.close();
  await quotad.stop();
});
