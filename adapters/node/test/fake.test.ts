/** `quotad/testing`: what an application's tests can bring about, reservations among it. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import express from "express";
import Fastify from "fastify";

import { limit, local, NoDecision, Shield } from "quotad";
import type { Options, QuotadEvent } from "quotad";
import { middleware } from "quotad/express";
import { plugin } from "quotad/fastify";
import { FakeDecisions } from "quotad/testing";
import type { FakePolicy, FakeRoute } from "quotad/testing";

import { FRAMEWORKS, make } from "./sample.js";
import { ask, eventually, portOf, Socket } from "./support.js";

const POLICIES: FakePolicy[] = [
  { name: "auth", limit: 2 },
  { name: "ai", limit: 10, partition: ["user"] },
  { name: "tokens", limit: 1_000, partition: ["user"] },
  { name: "sockets", limit: 1, windowSeconds: null, partition: ["user"] },
];
const ROUTES: FakeRoute[] = [
  { path: "POST /login", policies: ["auth"] },
  { path: "/ai/**", policies: ["ai"], token: true },
  { path: "/ws/**", policies: ["sockets"], token: true },
];

const bearer = (user: string): Record<string, string> => ({ authorization: `Bearer ${FakeDecisions.token(user)}` });
const shieldOf = (fake: FakeDecisions, options: Options = {}): Shield =>
  new Shield("", { environment: "development", transport: fake, warn: () => {}, ...options });

interface Held {
  renewAt: number;
}
/** As when the time of the next renewal has come. */
async function renewed(shield: Shield, fake: FakeDecisions): Promise<void> {
  const { keeper } = shield.runtime;
  const { held } = keeper as unknown as { held: Map<string, Held> };
  for (const lease of held.values()) lease.renewAt = 0;
  const before = fake.calls.length;
  (keeper as unknown as { wake(at: number): void }).wake(0);
  await eventually(() => fake.calls.length > before);
  await keeper.settled();
}

for (const framework of FRAMEWORKS) {
  describe(framework, () => {
    const served = async (
      options: Options,
      work: (port: number, fake: FakeDecisions, shield: Shield) => Promise<void>,
    ): Promise<void> => {
      const fake = new FakeDecisions(POLICIES, ROUTES);
      const shield = shieldOf(fake, options);
      const sample = await make(framework, shield);
      try {
        await work(sample.port, fake, shield);
      } finally {
        await sample.close();
      }
    };

    test("time passes when the test says so", () =>
      served({}, async (port, fake) => {
        const login = () => ask(port, "POST", "/login");
        assert.deepEqual([(await login()).status, (await login()).status, (await login()).status], [200, 200, 429]);
        fake.advance(59);
        const refused = await login();
        assert.deepEqual([refused.status, refused.one("retry-after")], [429, "1"]);
        assert.equal(refused.one("ratelimit-policy"), '"auth";q=2;w=60');
        assert.equal(refused.one("x-frame-options"), "DENY");
        fake.advance(1);
        assert.equal((await login()).status, 200);
        assert.deepEqual(fake.calls, Array(5).fill("Authorize"));
      }));

    test("it denies, goes down, stalls and comes back", () =>
      served(
        { deadlineMs: 10, rules: [{ path: "/plain", cost: 3, onUnavailable: local("5/hour") }] },
        async (port, fake) => {
          const login = async () => (await ask(port, "POST", "/login")).status;
          fake.deny("auth");
          assert.equal(await login(), 429);
          for (const trouble of ["down", "stall"] as const) {
            fake.restore();
            assert.equal(await login(), 200);
            fake[trouble]();
            assert.equal(await login(), 503);
          }
          // A local limit charges what the request costs.
          assert.deepEqual(
            [(await ask(port, "GET", "/plain")).status, (await ask(port, "GET", "/plain")).status],
            [200, 429],
          );
        },
      ));

    test("tokens and revocation", () =>
      served({}, async (port, fake, shield) => {
        const call = (headers = {}) => ask(port, "POST", "/ai/translate", { headers });
        assert.equal((await call()).status, 401);
        assert.equal((await call({ authorization: "Bearer nonsense" })).status, 401);
        assert.deepEqual((await call(bearer("alice"))).json(), { user: "alice", forged: null });
        fake.revoke("alice");
        assert.equal((await call(bearer("alice"))).status, 401);
        assert.equal(await shield.revokeSubject("fake", "bob"), true);
        assert.equal((await call(bearer("bob"))).status, 401);
        fake.down();
        await assert.rejects(shield.revokeSubject("fake", "carol"), NoDecision);
      }));

    test("leases are held, given back, lost and revoked", () =>
      served({}, async (port, fake, shield) => {
        const open = (user: string) => Socket.open(port, "/ws/silent", bearer(user));
        const first = await open("alice");
        assert.deepEqual([first.status, (await open("alice")).status, fake.held("sockets")], [101, 429, 1]);
        first.close();
        await eventually(() => fake.held("sockets") === 0);
        const third = await open("alice");
        fake.revoke("alice");
        await renewed(shield, fake);
        assert.equal(await third.closed(), 4401);
        const fourth = await open("bob");
        fake.loseLeases();
        // Somebody else has the place by now.
        const other = await make(framework, shieldOf(fake));
        const taken = await Socket.open(other.port, "/ws/silent", bearer("bob"));
        await renewed(shield, fake);
        assert.deepEqual([await fourth.closed(), taken.code], [1013, undefined]);
        await other.close();
      }));

    test("a lost lease whose place is free is taken again, and an outage closes no socket", () =>
      served({}, async (port, fake, shield) => {
        const socket = await Socket.open(port, "/ws/silent", bearer("alice"));
        fake.loseLeases();
        await renewed(shield, fake);
        assert.deepEqual([socket.code, fake.held("sockets")], [undefined, 1]);
        assert.deepEqual(fake.calls, ["Authorize", "RenewConnections", "AcquireConnection"]);
        fake.down();
        await renewed(shield, fake);
        assert.deepEqual([socket.code, shield.runtime.keeper.size], [undefined, 1]);
        fake.restore();
        await renewed(shield, fake);
        assert.deepEqual([socket.code, fake.held("sockets")], [undefined, 1]);
        socket.vanish();
      }));

    test("a crowd that comes and goes leaves nothing behind", () =>
      served({ rules: [{ path: "/ws/echo", messages: { policy: "tokens" } }] }, async (port, fake, shield) => {
        let seed = 7;
        const chance = (below: number): number => (seed = (seed * 48_271) % 0x7fff_ffff) % below;
        const one = async (number: number): Promise<void> => {
          const socket = await Socket.open(port, chance(2) ? "/ws/silent" : "/ws/echo", bearer(`user-${number % 40}`));
          for (let count = chance(30); count > 0 && socket.status === 101; count -= 1) socket.client.send("x");
          if (chance(2)) socket.close();
          else socket.vanish();
        };
        for (let round = 0; round < 10; round += 1) {
          await Promise.all(Array.from({ length: 40 }, (_, number) => one(round * 40 + number)));
        }
        await eventually(() => shield.runtime.keeper.size === 0);
        await shield.runtime.keeper.settled();
        assert.equal(fake.held("sockets"), 0);
        assert.equal(fake.calls.filter((rpc) => rpc === "Authorize").length, 400);
      }));

    test("the cost of a rule is settled after the response, once", () => {
      const events: QuotadEvent[] = [];
      const rules = [
        {
          path: "/ai/**",
          cost: 5,
          settle: (_: object, response?: { statusCode: number }) => response!.statusCode / 100,
        },
      ];
      return served({ rules, onEvent: (event) => events.push(event) }, async (port, fake) => {
        const answer = await ask(port, "POST", "/ai/translate", { headers: bearer("alice") });
        assert.equal(answer.one("ratelimit").split(";")[1], "r=5");
        await eventually(() => events.some(({ kind }) => kind === "settled"));
        assert.deepEqual([fake.used("ai"), fake.calls], [2, ["Authorize", "SettleCost"]]);
      });
    });
  });
}

const SETTLED = limit("tokens", {
  cost: 100,
  by: { user: "alice" },
  settle: (request: { headers: object }) => Number((request.headers as Record<string, string>)["x-cost"]),
});

test("a limit with a cost of its own is settled, also when its handler throws", async () => {
  const fake = new FakeDecisions(POLICIES);
  const shield = shieldOf(fake);
  const app = express();
  app.set("env", "test");
  app.use(middleware(shield));
  app.get("/", SETTLED, (request, response) => {
    if (request.query["boom"] !== undefined) throw new Error("boom");
    response.send("in");
  });
  const server = app.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  for (const [path, cost, used] of [
    ["/", "30", 30],
    ["/?boom", "0", 30],
    // More than was reserved.
    ["/", "250", 280],
  ] as const) {
    await ask(portOf(server), "GET", path, { headers: { "x-cost": cost } });
    await eventually(() => fake.used("tokens") === used);
  }
  // No number: it stays as it was charged.
  await ask(portOf(server), "GET", "/", { headers: {} });
  await eventually(() => fake.used("tokens") === 380);
  assert.equal(fake.calls.filter((rpc) => rpc === "SettleCost").length, 3);
  server.close();
  await shield.close();
});

test("what goes along is settled by its policies, and the route's keeps its charge", async () => {
  const fake = new FakeDecisions(POLICIES, ROUTES);
  const shield = shieldOf(fake);
  const app = Fastify();
  await app.register(plugin(shield));
  const along = limit("tokens", { settle: () => 7.2 });
  app.post("/ai/chat", { config: { quotad: along } }, async () => "in");
  await app.inject({ method: "POST", url: "/ai/chat", headers: bearer("alice") });
  await eventually(() => fake.used("tokens") === 8);
  assert.deepEqual([fake.used("ai"), fake.calls], [1, ["Authorize", "SettleCost"]]);
  await app.close();
});

test("a settlement without an answer is sent again with the same ticket and cost, until its time is over", async () => {
  const fake = new FakeDecisions(POLICIES);
  const events: QuotadEvent[] = [];
  const shield = shieldOf(fake, { onEvent: (event) => events.push(event) });
  const context = shield.outside();
  const reserve = () => context.check("tokens", { cost: 100, entries: { user: "alice" }, settleWithinMs: 60_000 });
  const decision = await reserve();
  const sent: unknown[] = [];
  const call = fake.call.bind(fake);
  fake.call = async (rpc, request, timeout) => {
    sent.push(request);
    const answer = await call(rpc, request, timeout);
    // The first answer is lost on its way.
    if (sent.length === 1) throw new NoDecision("away", "lost");
    return answer;
  };
  await context.settle(decision, 40);
  assert.equal(sent.length, 2);
  assert.deepEqual(sent[0], sent[1]);
  assert.equal(fake.used("tokens"), 40);
  // To another cost by mistake: the first settlement holds.
  await context.settle(decision, 90);
  assert.equal(fake.used("tokens"), 40);
  // Nobody answers: given up at the end of the process, and it stays charged.
  const other = await reserve();
  fake.down();
  const waiting = context.settle(other, 1);
  await eventually(() => sent.length >= 4);
  await shield.close();
  await waiting;
  fake.restore();
  assert.equal(fake.used("tokens"), 140);
  const states = events.flatMap((event) => (event.kind === "settled" ? [event.state] : []));
  assert.deepEqual(states, ["settled", "settled", "unsettled"]);
});

test("a service that reads past further policies lets nothing pass", async () => {
  class Old extends FakeDecisions {
    override call: FakeDecisions["call"] = (rpc, request, timeout) =>
      super.call(rpc, rpc === "Authorize" ? { ...request, policies: [] } : request, timeout);
  }
  const said: string[] = [];
  const shield = shieldOf(new Old(POLICIES, ROUTES), { onUnavailable: "open", warn: (text) => void said.push(text) });
  const app = Fastify();
  await app.register(plugin(shield));
  app.get("/", { config: { quotad: limit("auth") } }, async () => "in");
  const answer = await app.inject("/");
  assert.deepEqual([answer.statusCode, answer.json().code], [503, "NOT_CONFIGURED"]);
  assert.match(said.join("\n"), /W204.*Authorize left out auth/);
  await app.close();
});

test("a service that makes no reservations is warned of, and the charge stays", async () => {
  class Old extends FakeDecisions {
    override call: FakeDecisions["call"] = (rpc, request, timeout) =>
      super.call(rpc, { ...request, settleWithin: null }, timeout);
  }
  const said: string[] = [];
  const fake = new Old(POLICIES, ROUTES);
  const shield = shieldOf(fake, { warn: (text) => void said.push(text) });
  const app = Fastify();
  await app.register(plugin(shield));
  app.get("/", { config: { quotad: limit("auth", { settle: () => 0 }) } }, async () => "in");
  assert.equal((await app.inject("/")).statusCode, 200);
  assert.match(said.join("\n"), /W204.*no reservation/);
  assert.deepEqual([fake.used("auth"), fake.calls], [1, ["Authorize"]]);
  await app.close();
});

test("an empty fake lets pass what is asked of no policy", async () => {
  const fake = new FakeDecisions();
  const shield = shieldOf(fake);
  const app = Fastify();
  await app.register(plugin(shield));
  app.get("/", async () => "in");
  assert.equal((await app.inject("/")).statusCode, 200);
  assert.deepEqual(fake.calls, ["Authorize"]);
  await app.close();
});
