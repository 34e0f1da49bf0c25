/** Reservations against the real service. */

import assert from "node:assert/strict";
import { test } from "node:test";

import Fastify from "fastify";

import { limit } from "quotad";
import { plugin } from "quotad/fastify";

import { bearer, eventually, running, shieldOn, someone } from "./support.js";

test("what was reserved too much is given back, once", async () => {
  const quotad = await running();
  const settled: string[] = [];
  const shield = shieldOn(quotad.target, {
    rules: [{ path: "POST /ai/translate", cost: 4, settle: () => 1 }],
    onEvent: (event) => void (event.kind === "settled" && settled.push(event.state)),
  });
  const app = Fastify();
  await app.register(plugin(shield));
  const account = someone();
  const own = limit("per-account", { cost: 2, by: { account }, settle: () => 0 });
  app.post("/ai/translate", async () => "in");
  app.post("/own", { config: { quotad: own } }, async () => "in");
  const user = someone();
  const remaining = async (policy: string, entries: Record<string, string>): Promise<number> =>
    (await shield.outside().peek(policy, { entries })).statuses[0]!.remaining;

  const answer = await app.inject({ method: "POST", url: "/ai/translate", headers: bearer(user) });
  assert.match(String(answer.headers["ratelimit"]), /^"ai-per-user";r=1;/);
  await eventually(() => settled.length === 1);
  assert.equal(await remaining("ai-per-user", { user }), 4);

  assert.equal((await app.inject({ method: "POST", url: "/own" })).statusCode, 200);
  await eventually(() => settled.length === 2);
  assert.equal(await remaining("per-account", { account }), 2);

  // The same ticket to another cost: the first settlement holds.
  const job = shield.outside();
  const decision = await job.check("per-account", { cost: 2, entries: { account }, settleWithinMs: 60_000 });
  await job.settle(decision, 1);
  await job.settle(decision, 2);
  assert.equal(await remaining("per-account", { account }), 1);
  assert.deepEqual(settled, Array(4).fill("settled"));
  await app.close();
  await quotad.stop();
});
