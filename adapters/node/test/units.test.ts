/** What needs no service: addresses, rules, the breaker, headers, settings, cookies, text types. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { metrics } from "@opentelemetry/api";
import { loadSync } from "@grpc/proto-loader";
import type { ServiceDefinition } from "@grpc/grpc-js";

import { ConfigurationError, local, Shield } from "quotad";
import type { Options, QuotadEvent } from "quotad";
import { SessionCookie } from "quotad/cookies";
import { openTelemetry } from "quotad/opentelemetry";
import { multilineText, personName, plainText, safeUrl, slugText } from "quotad/types";

import { clientAddress, Networks, parseAddress, subscriber } from "../dist/address.js";
import { Bodies } from "../dist/bodies.js";
import { Breaker, FAILURES, OPEN_MS } from "../dist/breaker.js";
import { joinEntries } from "../dist/entries.js";
import { Events } from "../dist/events.js";
import { Heart } from "../dist/heart.js";
import { encode, varyOrigin } from "../dist/headers.js";
import { reshape } from "../dist/identity.js";
import { batches, Lease } from "../dist/leases.js";
import { Rules } from "../dist/rules.js";
import { PACKAGE } from "./support.js";

test("the client is found from the right past trusted proxies only", () => {
  const cases: [string, string[], string | undefined][] = [
    ["203.0.113.7", ["1.1.1.1"], "203.0.113.7"],
    ["10.0.0.1", [], "10.0.0.1"],
    ["10.0.0.1", ["6.6.6.6, 203.0.113.7"], "203.0.113.7"],
    ["10.0.0.1", ["6.6.6.6", "203.0.113.7, 10.0.0.2"], "203.0.113.7"],
    ["10.0.0.1", ["203.0.113.7, nonsense"], "10.0.0.1"],
    ["10.0.0.1", ["203.0.113.7:4711"], "203.0.113.7"],
    ["10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"],
    ["::ffff:10.0.0.1", ["203.0.113.7"], "203.0.113.7"],
    ["::ffff:a00:1", ["203.0.113.7"], "203.0.113.7"],
    ["10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"],
    ["", ["10.0.0.3"], undefined],
  ];
  for (const [peer, forwarded, client] of cases) {
    assert.equal(clientAddress(peer, forwarded, new Networks(["10.0.0.0/8"])), client, `${peer} ${forwarded}`);
  }
  assert.equal(clientAddress("2001:db8::5", ["203.0.113.7"], new Networks(["2001:db8::/32"])), "203.0.113.7");
});

test("a subscriber is an IPv4 address or a /64 of IPv6", () => {
  const cut = (text: string): string => subscriber(parseAddress(text)!);
  for (const text of ["203.0.113.7", "::ffff:203.0.113.7", "::FFFF:CB00:7107"]) assert.equal(cut(text), "203.0.113.7");
  for (const text of ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::1", "[2001:DB8:1:2::]", "2001:db8:1:2:ffff::1.2.3.4"]) {
    assert.equal(cut(text), "2001:db8:1:2::/64");
  }
  assert.equal(cut("::1"), "0:0:0:0::/64");
  for (const text of ["testclient", "", "1.2.3", "1.2.3.4.5", "::g"]) assert.equal(parseAddress(text), undefined);
});

test("rules match like the service's routes, in any case, and the first holds", () => {
  const [login, one, deep] = [{ path: "POST,PUT /v1/login", cost: 2 }, { path: "/v1/*/items" }, { path: "/v1/**" }];
  const rules = new Rules([login, one, deep]);
  for (const path of ["/v1/login", "/v1/login/", "//v1/./x/../login;a=b", "/V1/Login", "/v1/%6Cogin"]) {
    assert.equal(rules.find("POST", path), login, path);
  }
  assert.equal(rules.find("GET", "/v1/login"), deep);
  assert.equal(rules.find("GET", "/v1/a/items"), one);
  assert.equal(rules.find("GET", "/v1"), deep);
  assert.equal(rules.find("GET", "/v2").path, "/**");
  for (const path of ["v1", "/v*", "post /x", "POST  /x"])
    assert.throws(() => new Rules([{ path }]), ConfigurationError);
});

test("a path that reads in two ways is never skipped", () => {
  const rules = new Rules([{ path: "/health/**", skip: true }]);
  assert.equal(rules.find("GET", "/health/live").skip, true);
  const odd = ["/health/../me", "/me/../health/live", "/health/live/", "/health%2flive", "/health//live"];
  for (const path of [...odd, "/health;x/live", "/health\\live", "/health/%6cive"]) {
    assert.notEqual(rules.find("GET", path).skip, true, path);
  }
});

test("the breaker opens after five failures in a row and tries once a second", () => {
  let now = 0;
  const changes: boolean[] = [];
  const breaker = new Breaker(
    (isOpen) => changes.push(isOpen),
    () => now,
  );
  for (let count = 1; count < FAILURES; count += 1) breaker.failed();
  breaker.succeeded();
  for (let count = 0; count < FAILURES; count += 1) {
    assert.ok(breaker.admits());
    breaker.failed();
  }
  assert.deepEqual([changes, breaker.admits()], [[true], false]);
  for (let round = 0; round < 3; round += 1) {
    now += OPEN_MS;
    assert.deepEqual([breaker.admits(), breaker.admits()], [true, false]);
    breaker.failed();
  }
  // A try that never ends keeps it open no longer than a pause.
  now += OPEN_MS;
  assert.ok(breaker.admits());
  now += OPEN_MS;
  assert.ok(breaker.admits());
  breaker.succeeded();
  assert.deepEqual([changes, breaker.admits()], [[true, false], true]);
});

test("vary is one header that names Origin once", () => {
  assert.deepEqual(varyOrigin([]), [["vary", "Origin"]]);
  const two = varyOrigin([
    ["vary", "Accept"],
    ["vary", "origin"],
  ]);
  assert.deepEqual(two, [["vary", "Accept, origin"]]);
  assert.deepEqual(varyOrigin([["vary", "*"]]), [["vary", "*"]]);
});

test("a header goes out as the bytes of UTF-8 where Latin-1 has no such letter", () => {
  assert.deepEqual(encode("X-A", "ä"), ["x-a", "ä"]);
  assert.deepEqual(encode("X-A", "ł"), ["x-a", Buffer.from("ł").toString("latin1")]);
});

test("identity headers are gone in every form in which Node offers them", () => {
  const request = {
    rawHeaders: ["X-User-Id", "a", "Accept", "*/*", "x_user_id", "b"],
    headers: { "x-user-id": "a", accept: "*/*", x_user_id: "b" },
    headersDistinct: { "x-user-id": ["a"], accept: ["*/*"], x_user_id: ["b"] },
  };
  reshape(request as never, [{ name: "x-user-id", value: "c" }], ["x-user-id"]);
  assert.deepEqual(request, {
    rawHeaders: ["Accept", "*/*", "x-user-id", "c"],
    headers: { accept: "*/*", "x-user-id": "c" },
    headersDistinct: { accept: ["*/*"], "x-user-id": ["c"] },
  });
});

test("answers without the service have its two forms", () => {
  const message = "The limit cannot be checked now. Please try again later.";
  const uniform = new Bodies("uniform").unavailable();
  const problem = new Bodies("problem").unavailable();
  assert.equal(
    uniform.body.toString(),
    JSON.stringify({ status: "error", code: "RATE_LIMIT_UNAVAILABLE", message, details: [] }),
  );
  const type = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
  assert.equal(
    problem.body.toString(),
    JSON.stringify({ type, title: message, status: 503, code: "RATE_LIMIT_UNAVAILABLE" }),
  );
  assert.deepEqual([uniform.contentType, problem.contentType], ["application/json", "application/problem+json"]);
});

test("an unsafe list of origins does not start", () => {
  const lists: unknown[] = [
    ...[[], ["*"], ["null"], ["https://a.example/"], ["http://a.example"], ["https://A.example"], ["a.example"]],
    ...[["https://a.example", "https://*.example"], ["https://a.example/path"], ["https://a.example\n"]],
    "https://a.example",
  ];
  for (const origins of lists) {
    for (const environment of ["staging", "production", ""]) {
      const options = { environment, origins } as Options;
      assert.throws(() => new Shield("localhost:1", options), /origin/, JSON.stringify(options));
    }
  }
});

test("the environment and the origins come from variables", () => {
  delete process.env["ENVIRONMENT"];
  delete process.env["ALLOWED_ORIGINS"];
  assert.throws(() => new Shield(), /ALLOWED_ORIGINS/);
  process.env["ALLOWED_ORIGINS"] = "https://a.example, https://b.example:8443";
  const { cors } = new Shield().settings;
  assert.deepEqual(
    ["https://a.example", "https://b.example:8443", "https://b.example"].map((origin) => cors.allows(origin)),
    [true, true, false],
  );
  process.env["ENVIRONMENT"] = "developement";
  assert.throws(() => new Shield(), /developement/);
  delete process.env["ENVIRONMENT"];
  delete process.env["ALLOWED_ORIGINS"];
});

test("a slip in a setting does not start", () => {
  const wrong: object[] = [
    ...[{ orgins: [] }, { cors: "of" }, { errorBody: "json" }, { onUnavailable: "opne" }, { deadlineMs: 0 }],
    ...[{ trustedProxies: ["10.0.0.1/8"] }, { trustedProxies: ["10.0.0.0/33"] }, { trustedProxies: ["x"] }],
    ...[{ pingMs: -1 }, { rules: [{ path: "/x", onUnavailable: "opne" }] }, { rules: [{ path: "/x", cost: -1 }] }],
  ];
  for (const options of wrong) {
    const shield = (): Shield => new Shield("localhost:1", { environment: "development", ...options });
    assert.throws(shield, ConfigurationError, JSON.stringify(options));
  }
});

test("plain text stays on this machine", () => {
  const development = { environment: "development" };
  for (const target of ["quotad:50051", "10.0.0.1:50051", "dns:///quotad:50051", "", "127.0.0.1.evil.example:1"]) {
    assert.throws(() => new Shield(target, development), /target/, target);
  }
  const near = ["localhost:50051", "127.0.0.1:1", "[::1]:1", "unix:/run/quotad.sock", "dns:///localhost:1"];
  for (const target of near) new Shield(target, development);
  new Shield("quotad:50051", { ...development, insecure: true });
});

test("local limits divide by the replicas", async () => {
  const shared = local("8/minute", { replicas: 4 });
  const hits = async (...all: [string, number][]): Promise<boolean[]> => {
    const allowed = [];
    for (const [key, cost] of all) allowed.push((await shared.hit(key, cost)).allowed);
    return allowed;
  };
  assert.deepEqual(await hits(["a", 1], ["a", 1], ["a", 1]), [true, true, false]);
  // All or nothing: what is refused takes nothing.
  assert.deepEqual(await hits(["b", 3], ["b", 2], ["b", 1]), [false, true, false]);
  assert.deepEqual(await hits(["b", 0], ["c", 0], ["c", 0]), [false, true, true]);
  for (const wrong of ["ten per minute", "0/minute", "10/month", "10", "1/30 days"]) {
    assert.throws(() => local(wrong), ConfigurationError, wrong);
  }
});

test("entries beyond the service's bounds are left out, claims first", () => {
  const claims = Object.fromEntries(Array.from({ length: 40 }, (_, number) => [`claim:c${number}`, "x"]));
  const joined = joinEntries({ ip: "1.2.3.4", user: "", long: "x".repeat(257), bent: "a\nb", ...claims }, { own: "1" });
  assert.equal(Object.keys(joined).length, 32);
  assert.deepEqual(
    [joined["ip"], joined["own"], joined["user"], joined["long"]],
    ["1.2.3.4", "1", undefined, undefined],
  );
  assert.deepEqual([joined["bent"], joined["claim:c0"], joined["claim:c39"]], [undefined, "x", undefined]);
});

test("renewals are cut by number and by bytes", () => {
  const proto = loadSync("quotad/v1/decision.proto", { includeDirs: [`${PACKAGE}/proto`], keepCase: false });
  const service = proto["quotad.v1.DecisionService"] as ServiceDefinition;
  const bytes = (connections: object[]): number =>
    service["RenewConnections"]!.requestSerialize({ connections }).length;
  const lease = (size: number): Lease => {
    const entries = { user: "ü".repeat(size), "claim:a": "1" };
    const token = { issuer: "i", subject: "s", tokenId: "t", issuedAt: { seconds: 1e9, nanos: 1 } };
    return new Lease({ leaseId: "x".repeat(32), entries, policies: ["p".repeat(20)], holder: "h/1", token }, () => {});
  };
  const many = batches(Array.from({ length: 10_000 }, () => lease(1)));
  assert.ok(many.every(({ length }) => length <= 4_096));
  assert.equal(many.flat().length, 10_000);
  const large = batches(Array.from({ length: 1_000 }, () => lease(1_500)));
  for (const batch of [...large, ...many]) assert.ok(bytes(batch.map(({ connection }) => connection)) < 1 << 20);
  assert.ok(large.length <= 5);
  assert.deepEqual(batches([]), []);
});

test("a cookie is set and deleted by the same attributes", () => {
  const sent: string[] = [];
  const response = { appendHeader: (_: string, value: string) => sent.push(value) };
  const cookie = new SessionCookie("refresh_token", { maxAgeSeconds: 60 });
  cookie.set(response, "a.b-c_d");
  cookie.delete({ raw: {}, header: (_: string, value: string) => sent.push(value) });
  const attributes = "; Path=/; HttpOnly; Secure; SameSite=Strict";
  assert.deepEqual(sent, [
    `__Host-refresh_token=a.b-c_d; Max-Age=60${attributes}`,
    `__Host-refresh_token=; Max-Age=0${attributes}`,
  ]);
  assert.equal(cookie.read({ headers: { cookie: "a=b; __Host-refresh_token=x=y; refresh_token=z" } }), "x=y");
  assert.equal(cookie.read({ headers: { cookie: "refresh_token=z" } }), undefined);
});

test("a path changes a cookie's prefix and development drops it", () => {
  const path = new SessionCookie("refresh_token", { path: "/api/v1/auth", sameSite: "lax" });
  assert.equal(
    path.header("x", 1),
    "__Secure-refresh_token=x; Max-Age=1; Path=/api/v1/auth; HttpOnly; Secure; SameSite=Lax",
  );
  const development = new SessionCookie("refresh_token", { environment: "development" });
  assert.equal(development.header("x", 1), "refresh_token=x; Max-Age=1; Path=/; HttpOnly; SameSite=Strict");
});

test("a cookie that cannot be meant is refused, and so is a value that would break out", () => {
  for (const name of ["__Host-a", "__secure-a", "a b", "", "a=b", "ä"]) {
    assert.throws(() => new SessionCookie(name), ConfigurationError, name);
  }
  const options: object[] = [{ path: "auth" }, { path: "/;Domain=x" }, { sameSite: "none" }, { environment: "prod" }];
  for (const wrong of options) assert.throws(() => new SessionCookie("a", wrong), ConfigurationError);
  const nowhere = { appendHeader: () => assert.fail("it was set") };
  for (const value of ["a;b", "a b", 'a"b', "a\nb", "ä", "a,b", "a\\b", "x".repeat(4_096)]) {
    assert.throws(() => new SessionCookie("a").set(nowhere, value), RangeError, value);
  }
});

const taken = (kind: { safeParse(value: unknown): { success: boolean; data?: unknown } }, text: unknown): unknown =>
  kind.safeParse(text).data;

test("plain text", () => {
  const cases: [unknown, string | undefined][] = [
    ["  I <3 you ", "I <3 you"],
    ["5<6 and 7>6", "5<6 and 7>6"],
    ["Select * from the menu; DROP TABLE users", "Select * from the menu; DROP TABLE users"],
    ["e\u0301", "\u00e9"],
    ["👩‍👧 می‌خواهم", "👩‍👧 می‌خواهم"],
    ["\x1f a \u3000", "a"],
    ["😀".repeat(255), "😀".repeat(255)],
    ...["<img src=x onerror=alert(1)", "<b>A</b>", "</p", "<!--x", "<?php", "a\nb", "a\u202eb", "a\u200bb"].map(
      (text): [string, undefined] => [text, undefined],
    ),
    ...["a\u2028b", "a\x00b", "a\ud800b", "a\ue000b", "\ufeffa", "   ", "x".repeat(256), 7, null].map(
      (text): [unknown, undefined] => [text, undefined],
    ),
    [" ".repeat(300) + "x", "x"],
  ];
  for (const [text, kept] of cases) assert.equal(taken(plainText, text), kept, JSON.stringify(text));
});

test("several lines", () => {
  assert.equal(taken(multilineText, "a\r\n\tb\n"), "a\n\tb");
  for (const text of ["a\n<script>", "a\x1b[31m", "a\rb"]) assert.equal(taken(multilineText, text), undefined);
});

test("names of people", () => {
  for (const name of ["Ann O'Brien", "María-José", "李小龙", "Jean d’Arc", "J. R. Smith", "Nguyễn Văn A"]) {
    assert.equal(taken(personName, name), name);
  }
  for (const name of ["<b>A</b>", "A;B", "https://x", "42", "...", "A\u202eB", "A\nB", "A{{7*7}}"]) {
    assert.equal(taken(personName, name), undefined, name);
  }
});

test("slugs", () => {
  assert.equal(taken(slugText, "my-room-7"), "my-room-7");
  for (const slug of ["My-Room", "a--b", "-a", "a/b", "a b", "ä", "a\nb", "../x", "x".repeat(65)]) {
    assert.equal(taken(slugText, slug), undefined, slug);
  }
});

test("URLs", () => {
  for (const url of ["https://example.com/a?b=c#d", "https://Example.com", "https://a.b.example:8443/%7e"]) {
    assert.equal(taken(safeUrl, ` ${url} `), url);
  }
  const wrong = [
    ...["http://example.com", "javascript:alert(1)", "https://user:pw@example.com", "https://127.0.0.1/"],
    ...["https://[::1]/", "https://localhost/", "//example.com", "https:example.com", "https://example.com\\@x.y"],
    ...[
      "https://exa mple.com",
      "https://example.com:99999",
      "https://example.com:0",
      "https://2130706433/",
      "https://",
    ],
    ...[
      "data:text/html,x",
      "https://example.com:80@evil.example",
      "https://-a.example",
      'https://a.example/"',
      "https://a.example/<b>",
    ],
    ...["HTTPS://example.com", "https://a.example/{x}", "https://a.example/\u00e4", "https://0x7f.1/"],
  ];
  for (const url of wrong) assert.equal(taken(safeUrl, url), undefined, url);
});

test("events become metrics without anything that a client sent", () => {
  const seen: [string, number, object][] = [];
  const instrument = (name: string) => {
    const add = (value: number, labels: object): void => void seen.push([name, value, labels]);
    return { add, record: add };
  };
  const meter = { createCounter: instrument, createHistogram: instrument };
  metrics.setGlobalMeterProvider({ getMeter: () => meter } as never);
  const events: QuotadEvent[] = [
    {
      ...{ kind: "decided", rpc: "Authorize", allowed: false, reason: "limit_exceeded", mode: "exact" },
      ...{ route: "auth", policies: ["auth-per-ip"], seconds: 0.001 },
    } as QuotadEvent,
    { kind: "unavailable", why: "away", handled: "closed" },
    { kind: "breaker changed", isOpen: true },
    { kind: "lease ended", state: "lost" },
    { kind: "settled", state: "unsettled" },
  ];
  const count = openTelemetry();
  for (const event of events) count(event);
  metrics.disable();
  assert.deepEqual(seen, [
    [
      "quotad.decisions",
      1,
      { rpc: "Authorize", outcome: "deny", reason: "limit_exceeded", mode: "exact", route: "auth" },
    ],
    ["quotad.decision.duration", 0.001, { rpc: "Authorize" }],
    ["quotad.unavailable", 1, { cause: "away", handled: "closed" }],
    ["quotad.breaker.changes", 1, { state: "open" }],
    ["quotad.leases.ended", 1, { state: "lost" }],
    ["quotad.reservations.settled", 1, { state: "unsettled" }],
  ]);
});

test("a callback that throws harms nobody", (t) => {
  const logged = t.mock.method(console, "error", () => {});
  new Events(() => {
    throw new Error("broken");
  }).emit({ kind: "lease ended", state: "lost" });
  assert.equal(logged.mock.callCount(), 1);
});

test("a paused socket is pinged and not ended for its silence", () => {
  const heart = new Heart(60_000);
  const done: string[] = [];
  const socket = (name: string, isPaused: boolean) => ({
    ...{ isPaused, on: () => {}, once: () => {}, close: () => {} },
    ping: () => done.push(`${name} pinged`),
    terminate: () => done.push(`${name} ended`),
  });
  heart.watch(socket("a", false));
  heart.watch(socket("b", true));
  heart.beat();
  heart.beat();
  assert.deepEqual(done, ["a pinged", "b pinged", "a ended", "b pinged"]);
});
