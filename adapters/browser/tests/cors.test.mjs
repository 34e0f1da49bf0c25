// What pages of allowed and of foreign origins may read, and what their questions cost.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { token } from "./support/servers.mjs";
import { network, read, World } from "./support/world.mjs";

describe("cors", () => {
  let world, alone, development;
  before(async () => {
    world = await World.start();
    alone = await world.serveAlone();
    development = await world.serve({ target: world.quotad.target, environment: "development" });
  });
  after(() => world?.stop());

  /** Each status with a question that gets it. The body of the 500 is the application's own. */
  const refusals = () => [
    { status: 401, body: /"code":"TOKEN_MISSING"/, url: `${world.api}/me` },
    { status: 403, body: /"code":"PARTITION_MISSING"/, url: `${world.api}/account?account=`, method: "POST" },
    { status: 500, body: /internal server error/i, url: `${world.api}/boom` },
    { status: 503, body: /"code":"RATE_LIMIT_UNAVAILABLE"/, url: `${alone.origin}/plain` },
  ];

  test("an allowed origin reads the body and the limit headers of a 429", async () => {
    const page = await world.open(world.pages.allowed);
    const url = `${world.api}/limited/read`;
    for (const left of [2, 1, 0]) {
      const passed = await read(page, url, { method: "POST" });
      assert.equal(passed.status, 200);
      assert.match(passed.headers.ratelimit, new RegExp(`^"per-path";r=${left};t=\\d+$`));
    }
    const refused = await read(page, url, { method: "POST" });
    assert.equal(refused.status, 429);
    const body = JSON.parse(refused.body);
    assert.equal(body.code, "RATE_LIMIT_EXCEEDED");
    assert.equal(body.details[0].policy, "per-path");
    assert.equal(refused.headers["ratelimit-policy"], '"per-path";q=3;w=86400');
    assert.match(refused.headers.ratelimit, /^"per-path";r=0;t=\d+$/);
    const seconds = Number(refused.headers["retry-after"]);
    assert.ok(seconds > 86_000 && seconds <= 86_400, `Retry-After: ${seconds}`);
    // Sent, but not exposed.
    assert.equal(refused.headers["x-frame-options"], undefined);
  });

  test("an allowed origin reads 401, 403, 500 and 503", async () => {
    const page = await world.open(world.pages.allowed);
    const answers = {};
    for (const { status, body, url, method } of refusals()) {
      const refused = await read(page, url, { method });
      assert.deepEqual([refused.status, refused.error], [status, undefined], url);
      assert.match(refused.body, body);
      answers[status] = refused.headers;
    }
    // Of the headers each has what it is about: a quota that was charged, a moment to come back.
    assert.match(answers[500].ratelimit, /^"per-day";r=\d+;t=\d+$/);
    assert.equal(answers[500]["ratelimit-policy"], '"per-day";q=100;w=86400');
    assert.equal(answers[503]["retry-after"], "1");
  });

  test("a foreign origin reads nothing, whatever the status", async () => {
    const page = await world.open(world.pages.foreign);
    const seen = await network(page);
    const limited = { status: 429, url: `${world.api}/limited/foreign`, method: "POST" };
    const questions = [{ status: 200, url: `${world.api}/plain` }, limited, limited, limited, limited, ...refusals()];
    for (const { url, method } of questions) {
      for (const credentials of ["omit", "include"]) {
        assert.deepEqual(await read(page, url, { method, credentials }), { error: "TypeError" }, url);
      }
    }
    const number = 2 * questions.length;
    assert.deepEqual(await seen.refused(number), Array(number).fill("MissingAllowOriginHeader"));
    // They were asked nevertheless, and charged: CORS hides answers, it stops no request.
    const allowed = await world.open(world.pages.allowed);
    assert.equal((await read(allowed, limited.url, { method: "POST" })).status, 429);
  });

  test("an allowed origin reads with credentials, and the cookie comes along", async () => {
    const page = await world.open(world.pages.allowed);
    const url = `${world.api}/session/cookies`;
    const login = await read(page, `${world.api}/session/login`, { method: "POST", credentials: "include" });
    assert.equal(login.status, 200);
    const names = JSON.parse((await read(page, url, { credentials: "include" })).body);
    assert.deepEqual(names, ["__Host-session", "__Secure-refresh_token"]);
    assert.deepEqual(JSON.parse((await read(page, url, { credentials: "omit" })).body), []);
  });

  test("in development every origin reads, none with credentials", async () => {
    const page = await world.open(world.pages.foreign);
    const seen = await network(page);
    const url = `${development.origin}/plain`;
    assert.equal((await read(page, url)).status, 200);
    assert.deepEqual(await read(page, url, { credentials: "include" }), { error: "TypeError" });
    assert.deepEqual(await seen.refused(1), ["WildcardOriginNotAllowed"]);
  });

  test("preflights are answered and counted nowhere", async () => {
    const page = await world.open(world.pages.allowed);
    const seen = await network(page);
    const json = { method: "POST", headers: { "content-type": "application/json" }, body: "{}" };
    for (const left of [2, 1, 0]) {
      // A query of its own, because the browser keeps the answer for a URL.
      const answer = await read(page, `${world.api}/limited/preflight?left=${left}`, json);
      assert.equal(answer.status, 200);
      assert.match(answer.headers.ratelimit, new RegExp(`;r=${left};`));
    }
    assert.deepEqual(await seen.preflighted(3), Array(3).fill({ method: "OPTIONS", status: 204 }));
    // To a path for which nothing is left, and to one that wants a token, it is answered too.
    assert.equal((await read(page, `${world.api}/limited/preflight?left=none`, json)).status, 429);
    const headers = { authorization: `Bearer ${token("ann")}` };
    assert.equal(JSON.parse((await read(page, `${world.api}/me`, { headers })).body).user, "ann");
    assert.equal((await seen.preflighted(5)).length, 5);
  });

  test("what a foreign origin must ask leave for is never sent, and charges nothing", async () => {
    const url = `${world.api}/limited/leave`;
    const allowed = await world.open(world.pages.allowed);
    const left = async () => (await read(allowed, url, { method: "POST" })).headers.ratelimit;
    assert.match(await left(), /;r=2;/);
    const foreign = await world.open(world.pages.foreign);
    const seen = await network(foreign);
    const json = { method: "POST", headers: { "content-type": "application/json" }, body: "{}" };
    assert.deepEqual(await read(foreign, url, json), { error: "TypeError" });
    assert.deepEqual(await seen.preflighted(1), [{ method: "OPTIONS", status: 204 }]);
    assert.deepEqual(await seen.refused(1), ["PreflightMissingAllowOriginHeader"]);
    assert.match(await left(), /;r=1;/);
  });
});
