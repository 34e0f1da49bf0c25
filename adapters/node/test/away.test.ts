/** The service is stopped, stalled, restarted: what requests get, how long they wait, what is charged. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";

import { local } from "quotad";
import type { Options, QuotadEvent } from "quotad";

import { FAILURES } from "../dist/breaker.js";
import { FRAMEWORKS, make } from "./sample.js";
import type { Framework, Sample } from "./sample.js";
import {
  address,
  ask,
  bearer,
  eventually,
  folder,
  freePort,
  pause,
  PACKAGE,
  Quotad,
  Redis,
  running,
  shieldOn,
  Socket,
  someone,
} from "./support.js";

const start = async (target: string, options: Options, framework: Framework = "Express") => {
  const shield = shieldOn(target, {
    environment: "development",
    trustedProxies: ["127.0.0.0/8"],
    warn: () => {},
    ...options,
  });
  const sample: Sample = await make(framework, shield);
  return { port: sample.port, shield, sample };
};

for (const framework of FRAMEWORKS) {
  for (const trouble of ["dead", "stalled"] as const) {
    test(`${framework}: each rule says what happens without an answer of a ${trouble} service`, async () => {
      const quotad = await running();
      const events: QuotadEvent[] = [];
      const rules = [
        { path: "POST /login", onUnavailable: local("2/day") },
        { path: "/plain", onUnavailable: "open" as const },
      ];
      const onEvent = (event: QuotadEvent): void => void events.push(event);
      const { port, sample } = await start(quotad.target, { rules, onEvent, deadlineMs: 50 }, framework);
      if (trouble === "dead") await quotad.stop();
      else await quotad.stall();
      const closed = await ask(port, "POST", "/signup");
      assert.deepEqual([closed.status, closed.one("retry-after")], [503, "1"]);
      assert.equal(
        closed.body,
        '{"status":"error","code":"RATE_LIMIT_UNAVAILABLE",' +
          '"message":"The limit cannot be checked now. Please try again later.","details":[]}',
      );
      assert.equal(closed.one("x-frame-options"), "DENY");
      const opened = await ask(port, "GET", "/plain", { headers: { "x-user-id": "admin", x_user_id: "admin" } });
      assert.deepEqual([opened.status, opened.json()], [200, { user: null, forged: null }]);
      assert.deepEqual(opened.all("ratelimit"), []);
      const headers = { "x-forwarded-for": address() };
      const logins = [];
      for (let round = 0; round < 3; round += 1) logins.push(await ask(port, "POST", "/LOGIN", { headers }));
      // Express takes the path in any case, Fastify does not; the rule holds either way.
      const served = framework === "Express" ? 200 : 404;
      assert.deepEqual(
        logins.map(({ status }) => status),
        [served, served, 429],
      );
      assert.ok(Number(logins[2]!.one("retry-after")) > 86_000);
      assert.equal(logins[2]!.json().code, "RATE_LIMIT_EXCEEDED");
      assert.equal((await ask(port, "POST", "/login")).status, 200, "another address");
      const handled = events.flatMap((event) => (event.kind === "unavailable" ? [event.handled] : []));
      assert.deepEqual(handled, ["closed", "open", "local", "local", "local", "local"]);
      await sample.close();
      await quotad.stop();
    });
  }

  test(`${framework}: what passes unchecked is not logged in`, async () => {
    const { port, sample } = await start("127.0.0.1:1", { onUnavailable: "open" }, framework);
    const answer = await ask(port, "GET", "/me", { headers: bearer("alice") });
    assert.deepEqual([answer.status, answer.json().code], [503, "TOKEN_CHECK_UNAVAILABLE"]);
    const maybe = await ask(port, "GET", "/maybe", { headers: bearer("alice") });
    assert.deepEqual(maybe.json(), { user: null });
    await sample.close();
  });
}

test("a stalled service costs its deadline a few times only", async () => {
  const quotad = await running();
  const events: QuotadEvent[] = [];
  const onEvent = (event: QuotadEvent): void => void events.push(event);
  const { port, sample } = await start(quotad.target, { onUnavailable: "open", deadlineMs: 200, onEvent });
  await eventually(async () => (await ask(port, "POST", "/login")).all("ratelimit").length === 1);
  events.length = 0;
  await quotad.stall();
  const plain = async (): Promise<void> => assert.equal((await ask(port, "GET", "/plain")).status, 200);
  const from = performance.now();
  for (let round = 0; round < FAILURES; round += 1) await plain();
  assert.ok(performance.now() - from >= FAILURES * 195);
  assert.ok(events.some((event) => event.kind === "breaker changed" && event.isOpen));
  const later = performance.now();
  for (let round = 0; round < 20; round += 1) await plain();
  assert.ok(performance.now() - later < 20 * 200, "the breaker is open: not one deadline for each");
  quotad.goOn();
  await eventually(async () => (await ask(port, "POST", "/login")).all("ratelimit").length === 1, 3_000);
  assert.ok(events.some((event) => event.kind === "breaker changed" && !event.isOpen));
  await sample.close();
  await quotad.stop();
});

test("while the breaker is open nothing is sent but a try a second", async () => {
  const quotad = await running();
  const { port, shield, sample } = await start(quotad.target, { onUnavailable: "open", deadlineMs: 50 });
  await quotad.stall();
  for (let round = 0; round < FAILURES; round += 1) await ask(port, "GET", "/plain");
  let sent = 0;
  const { transport } = shield.runtime.client as unknown as { transport: { call: (...all: unknown[]) => unknown } };
  const call = transport.call.bind(transport);
  transport.call = (...all) => {
    sent += 1;
    return call(...all);
  };
  const from = performance.now();
  for (let round = 0; round < 50; round += 1) await ask(port, "GET", "/plain");
  assert.ok(sent <= 1 + (performance.now() - from) / 1_000, String(sent));
  await sample.close();
  await quotad.stop();
});

test("what was sent to a stalled service is charged at most once, and never sent again", async () => {
  const quotad = await running();
  const { port, sample } = await start(quotad.target, { onUnavailable: "open", deadlineMs: 100 });
  const headers = { "x-forwarded-for": address() };
  await eventually(async () => (await ask(port, "POST", "/login")).all("ratelimit").length === 1);
  await quotad.stall();
  // Their deadlines pass before anybody reads them.
  for (let round = 0; round < 3; round += 1) {
    assert.deepEqual((await ask(port, "POST", "/login", { headers })).all("ratelimit"), []);
  }
  quotad.goOn();
  let answer = await ask(port, "POST", "/login", { headers });
  await eventually(async () => {
    if (answer.all("ratelimit").length === 1) return true;
    answer = await ask(port, "POST", "/login", { headers });
    return answer.all("ratelimit").length === 1;
  });
  assert.equal(answer.status, 200);
  await sample.close();
  await quotad.stop();
});

test("it is back within two seconds of a restart under load", async () => {
  const quotad = await running();
  const { port, sample } = await start(quotad.target, { onUnavailable: "open", deadlineMs: 1_000 });
  const exact: number[] = [];
  let isOver = false;
  const load = (async () => {
    while (!isOver) {
      const answer = await ask(port, "POST", "/login");
      assert.equal(answer.status, 200);
      if (answer.all("ratelimit").length === 1) exact.push(performance.now());
      await pause(10); // a hundred requests a second
    }
  })();
  await eventually(() => exact.length > 10);
  await quotad.stop();
  await eventually(async () => (await ask(port, "POST", "/login")).all("ratelimit").length === 0);
  await quotad.start();
  const ready = performance.now();
  await eventually(() => exact.at(-1)! > ready);
  isOver = true;
  await load;
  assert.ok(exact.find((at) => at > ready)! - ready < 2_000);
  await sample.close();
  await quotad.stop();
});

test("an open socket outlives a restart of the service", async () => {
  const quotad = await running();
  const { port, shield, sample } = await start(quotad.target, { deadlineMs: 5_000 });
  const headers = bearer(someone());
  const socket = await Socket.open(port, "/ws/silent", headers);
  await quotad.stop();
  await quotad.start();
  // The embedded store has forgotten the lease: it is lost, and the place is free, so it is taken again.
  const { held } = shield.runtime.keeper as unknown as { held: Map<string, { renewAt: number }> };
  const [lease] = [...held.values()];
  const { client } = shield.runtime;
  const calls: string[] = [];
  const call = client.call.bind(client);
  client.call = (rpc, request, timeout) => call(rpc, request, timeout).then((answer) => (calls.push(rpc), answer));
  await eventually(() => calls.includes("AcquireConnection") || (lease!.renewAt > 0 && calls.length > 2));
  assert.deepEqual([socket.code, shield.runtime.keeper.size], [undefined, 1]);
  const other = await Socket.open(port, "/ws/silent", headers);
  assert.deepEqual([other.status, (await Socket.open(port, "/ws/silent", headers)).status], [101, 429]);
  await sample.close();
  await quotad.stop();
});

describe("the Redis of quotad", () => {
  test("a policy that leaves the choice to the caller does not open the breaker", async () => {
    const store = `redis://127.0.0.1:${await freePort()}`;
    const quotad = await withoutStore(store);
    const { port, shield, sample } = await start(quotad.target, {});
    let answer = await ask(port, "GET", "/undecided");
    for (let round = 0; round < 2 * FAILURES; round += 1) {
      answer = await ask(port, "GET", "/undecided");
      assert.deepEqual([answer.status, answer.json().code], [503, "RATE_LIMIT_UNAVAILABLE"]);
    }
    assert.equal(shield.runtime.client.breaker.isOpen, false);
    const denied = await ask(port, "GET", "/closed");
    // The service's own words and ours are the same, but for the policy that only the service knows.
    assert.deepEqual([denied.status, { ...denied.json(), details: [] }], [answer.status, answer.json()]);
    const named = (one: typeof denied): string[] =>
      one.headers
        .filter(([name]) => !["content-length", "date"].includes(name))
        .map((header) => header.join(": "))
        .sort();
    assert.deepEqual(named(denied), named(answer));
    assert.equal((await ask(port, "POST", "/login")).status, 200, "local, by the service");
    await sample.close();
    await quotad.stop();
  });

  test("is killed under load and comes back", async () => {
    let redis = await Redis.start();
    const quotad = await running(redis.url);
    const { port, shield, sample } = await start(quotad.target, {});
    const seen: string[] = [];
    let isOver = false;
    const load = async (method: string, path: string): Promise<void> => {
      while (!isOver) {
        const answer = await ask(port, method, path);
        seen.push(`${path} ${answer.status}`);
        await pause(5); // two hundred requests a second each
      }
    };
    const loads = [load("POST", "/login"), load("GET", "/closed"), load("GET", "/undecided")];
    // The sample has no handler at these two: 404 is leave to pass.
    const good = ["/login 200", "/closed 404", "/undecided 404"];
    const has = (wanted: string[], of: string[]) => wanted.every((one) => of.includes(one));
    await eventually(() => has(good, seen));
    const { port: at } = redis;
    await redis.stop();
    await eventually(() => has(["/closed 503", "/undecided 503"], seen));
    redis = await Redis.start(at);
    await eventually(() => has(good, seen.slice(-30)) && !seen.slice(-30).some((one) => one.endsWith("503")));
    isOver = true;
    await Promise.all(loads);
    // Log-ins were decided throughout, by quotad's own memory while Redis was away.
    assert.deepEqual(new Set(seen), new Set([...good, "/closed 503", "/undecided 503"]));
    assert.equal(shield.runtime.client.breaker.isOpen, false);
    await sample.close();
    await quotad.stop();
    await redis.stop();
  });
});

/** A quotad whose Redis was never there. */
async function withoutStore(store: string): Promise<Quotad> {
  const quotad = await running();
  const config = readFileSync(`${quotad.folder}/quotad.yaml`, "utf8").replace('"memory:"', JSON.stringify(store));
  await quotad.stop();
  const other = new Quotad(folder(), config);
  return other.start();
}

test("ready connects before the first request, and says so when nobody is there", async () => {
  const quotad = await running();
  const shield = shieldOn(quotad.target);
  assert.equal(await shield.ready(), true);
  assert.equal(await shield.runtime.client.ready(1), true);
  await shield.close();
  const said: string[] = [];
  const nobody = shieldOn("127.0.0.1:1", { warn: (text) => void said.push(text) });
  assert.equal(await nobody.ready(), false);
  assert.match(said.join("\n"), /W203/);
  await nobody.close();
  await quotad.stop();
});

test("a process without a server ends by itself", async () => {
  const quotad = await running();
  const script = `
    import { Shield } from "quotad";
    const shield = new Shield(${JSON.stringify(quotad.target)}, { environment: "development", deadlineMs: 10_000 });
    await shield.check("closed", { entries: { ip: "127.0.0.1" } });
    await shield.outside().lease("sockets-per-user", { entries: { user: "script" } });
    await shield.close();
    console.log("done");
  `;
  const run = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
    cwd: PACKAGE,
    encoding: "utf8",
    timeout: 30_000,
  });
  assert.deepEqual([run.stdout, run.status], ["done\n", 0], run.stderr);
  await quotad.stop();
});
