/** Sockets and streams against the real service: opened by leave, held by the transport, ended by the service's word. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";

import type { Options, Shield } from "quotad";

import { GrpcTransport } from "../dist/transport.js";
import { ends, FRAMEWORKS, make } from "./sample.js";
import type { Sample } from "./sample.js";
import { Answer, ask, bearer, eventually, ORIGIN, running, shieldOn, Socket, someone, token } from "./support.js";
import type { Quotad } from "./support.js";

for (const framework of FRAMEWORKS) {
  describe(framework, () => {
    let quotad: Quotad;
    before(async () => (quotad = await running()));
    after(() => quotad.stop());

    const served = async (
      work: (port: number, shield: Shield, sample: Sample) => Promise<void>,
      options: Options = {},
    ) => {
      const shield = shieldOn(quotad.target, { trustedProxies: ["127.0.0.0/8"], warn: () => {}, ...options });
      const sample = await make(framework, shield);
      try {
        await work(sample.port, shield, sample);
      } finally {
        await sample.close();
      }
    };
    const isFree = async (shield: Shield): Promise<void> => {
      await eventually(() => shield.runtime.keeper.size === 0);
      await shield.runtime.keeper.settled();
    };

    test("the socket over the limit is refused with 429 before it opens", () =>
      served(async (port) => {
        const headers = bearer(someone());
        const both = [await Socket.open(port, "/ws/silent", headers), await Socket.open(port, "/ws/echo", headers)];
        assert.deepEqual(
          both.map(({ status }) => status),
          [101, 101],
        );
        const { answer } = await Socket.open(port, "/ws/silent", headers);
        assert.deepEqual([answer.status, answer.json().code], [429, "RATE_LIMIT_EXCEEDED"]);
        assert.equal(answer.one("ratelimit-policy"), '"sockets-per-user";q=2;qu="concurrent-requests"');
        assert.equal(answer.one("x-frame-options"), "DENY");
        assert.equal(answer.one("content-type"), "application/json");
        assert.equal(answer.one("content-length"), String(answer.body.length));
        for (const socket of both) socket.vanish();
      }));

    for (const path of ["/ws/silent", "/ws/echo"]) {
      for (const how of ["close", "vanish"] as const) {
        test(`the lease of ${path} is free when the client leaves (${how})`, () =>
          served(async (port, shield) => {
            const headers = bearer(someone());
            for (let round = 0; round < 3; round += 1) {
              const both = [await Socket.open(port, path, headers), await Socket.open(port, path, headers)];
              for (const socket of both) {
                assert.equal(socket.status, 101);
                socket[how]();
              }
              await isFree(shield);
            }
          }));
      }
    }

    test("a socket that is not even read is free soon after its client has vanished", () =>
      served(
        async (port, shield) => {
          const socket = await Socket.open(port, "/ws/paused", bearer(someone()));
          assert.equal(shield.runtime.keeper.size, 1);
          socket.vanish();
          // Only what is written finds out that nobody is there.
          await isFree(shield);
        },
        { pingMs: 100 },
      ));

    test("a client that answers no ping is gone, one that does stays", () =>
      served(
        async (port, shield) => {
          const dead = await Socket.open(port, "/ws/silent", bearer(someone()));
          const alive = await Socket.open(port, "/ws/silent", bearer(someone()));
          dead.client.pause();
          await eventually(() => shield.runtime.keeper.size === 1);
          let pings = 0;
          alive.client.on("ping", () => (pings += 1));
          await eventually(() => pings >= 3);
          assert.equal(alive.code, undefined);
          alive.vanish();
        },
        // Long enough for an answer on a busy machine.
        { pingMs: 1_000 },
      ));

    test("messages reach the handler in order and so does the end", () =>
      served(
        async (port, shield) => {
          ends.length = 0;
          const socket = await Socket.open(port, "/ws/echo", bearer(someone()));
          const texts = Array.from({ length: 100 }, (_, number) => String(number));
          for (const text of texts) socket.client.send(text);
          await eventually(() => socket.messages.length === 100);
          assert.deepEqual(socket.messages, texts);
          socket.close();
          await eventually(() => ends.includes("/ws/echo after 100"));
          // The end is there long before the last of them is charged; the lease does not wait for that.
          const hasty = await Socket.open(port, "/ws/echo", bearer(someone()));
          for (const text of texts.slice(0, 10)) hasty.client.send(text);
          hasty.close();
          await eventually(() => ends.includes("/ws/echo after 10"));
          assert.equal(shield.runtime.keeper.size, 0);
        },
        // Cost 0: each is asked about, in its turn.
        { rules: [{ path: "/ws/**", messages: { policy: "closed", cost: 0 } }] },
      ));

    test("a handshake that the WebSocket server refuses itself holds no lease", () =>
      served(async (port, shield) => {
        const upgrade = { connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "7" };
        const answer = await ask(port, "GET", "/ws/silent", { headers: { ...bearer(someone()), ...upgrade } });
        assert.equal(answer.status, 400);
        await isFree(shield);
      }));

    test("a foreign origin is refused before a lease is taken", () =>
      served(async (port, shield) => {
        const headers = bearer(someone());
        for (const origin of ["https://evil.example", "null"]) {
          const { answer } = await Socket.open(port, "/ws/silent", { ...headers, origin });
          assert.deepEqual([answer.status, answer.json().code], [403, "ORIGIN_NOT_ALLOWED"]);
        }
        assert.equal(shield.runtime.keeper.size, 0);
        const own = await Socket.open(port, "/ws/silent", { ...headers, origin: ORIGIN });
        assert.equal(own.status, 101);
        own.vanish();
      }));

    test("without CORS only the host's own pages may open sockets", () =>
      served(
        async (port) => {
          const headers = { ...bearer(someone()), host: "api.example.com" };
          const own = await Socket.open(port, "/ws/silent", { ...headers, origin: "https://api.example.com" });
          const other = await Socket.open(port, "/ws/silent", { ...headers, origin: ORIGIN });
          assert.deepEqual([own.status, other.status], [101, 403]);
          own.vanish();
        },
        { cors: "off" },
      ));

    test("a socket without a good token is refused with 401, one that is nowhere with 404", () =>
      served(async (port, shield) => {
        assert.equal((await Socket.open(port, "/ws/silent")).status, 401);
        assert.equal((await Socket.open(port, `/ws/silent?token=${token("a")}x`)).status, 401);
        assert.equal((await Socket.open(port, "/nowhere", bearer(someone()))).status, 404);
        assert.equal(shield.runtime.keeper.size, 0);
        const good = await Socket.open(port, `/ws/silent?token=${token(someone())}`);
        assert.equal(good.status, 101);
        good.vanish();
      }));

    test("refused sockets are accepted and closed if so wished", () =>
      served(
        async (port) => {
          const socket = await Socket.open(port, "/ws/silent");
          assert.deepEqual([socket.status, await socket.closed()], [101, 4429]);
        },
        { acceptThenClose: 4429 },
      ));

    test("a revoked token is refused on HTTP and sockets and closes an open one", () =>
      served(async (port) => {
        const id = randomUUID();
        const headers = bearer(someone(), { jti: id });
        const silent = await Socket.open(port, "/ws/silent", headers);
        assert.equal((await ask(port, "GET", "/me", { headers })).status, 200);
        const elsewhere = new GrpcTransport(quotad.target);
        const target = { tokenId: { issuer: "example-app", id } };
        assert.ok((await elsewhere.call("RevokeToken", target, 10_000)).newlyRevoked);
        elsewhere.close();
        assert.equal((await ask(port, "GET", "/me", { headers })).json().code, "TOKEN_INVALID");
        assert.equal((await Socket.open(port, "/ws/silent", headers)).status, 401);
        assert.equal(await silent.closed(), 4401);
      }));

    test("an expired token closes an open socket", () =>
      served(async (port) => {
        // The leeway of 30 s is the service's default, so the token is over already when it opens the socket.
        const now = Math.floor(Date.now() / 1_000);
        const socket = await Socket.open(port, "/ws/silent", bearer(someone(), { iat: now - 60, exp: now - 28 }));
        assert.deepEqual([socket.status, await socket.closed()], [101, 4401]);
      }));

    test("revoking a subject closes its sockets of this process at once", () =>
      served(async (port, shield) => {
        const user = someone();
        const socket = await Socket.open(port, "/ws/silent", bearer(user));
        assert.equal(await shield.revokeSubject("example-app", user), true);
        assert.equal(shield.runtime.keeper.size, 0);
        assert.equal(await socket.closed(), 4401);
      }));

    test("all leases of a process are renewed in one call and outlive their ttl", () =>
      served(async (port, shield) => {
        const batches: number[] = [];
        const { client } = shield.runtime;
        const call = client.call.bind(client);
        client.call = async (rpc, request, timeout) => {
          const answer = await call(rpc, request, timeout);
          if (rpc === "RenewConnections") {
            const { renewals } = answer as unknown as { renewals: { state: string }[] };
            assert.deepEqual(new Set(renewals.map(({ state }) => state)), new Set(["STATE_HELD"]));
            batches.push(renewals.length);
          }
          return answer;
        };
        const sockets = await Promise.all(
          Array.from({ length: 20 }, () => Socket.open(port, "/ws/silent", bearer(someone()))),
        );
        // The TTL is 3 s and the renewals come each second: after the fourth, all would be over without them.
        await eventually(() => batches.length >= 4);
        assert.deepEqual(new Set(batches), new Set([20]));
        assert.ok(sockets.every(({ code }) => code === undefined));
        for (const socket of sockets) socket.vanish();
      }));

    test("a stream holds its lease until the client leaves", () =>
      served(async (port, shield, sample) => {
        const headers = bearer(someone());
        const first = stream(port, "/events", headers);
        await eventually(() => shield.runtime.keeper.size === 1);
        const second = await ask(port, "GET", "/events", { headers });
        assert.deepEqual(
          [second.status, second.one("ratelimit-policy")],
          [429, '"streams-per-user";q=1;qu="concurrent-requests"'],
        );
        (await first.begun).destroy();
        await isFree(shield);
        sample.release();
        assert.equal((await ask(port, "GET", "/events", { headers })).status, 200);
      }));

    test("a stream ends whole when its token is revoked, and what the handler still writes harms nobody", () =>
      served(async (port, shield, sample) => {
        const user = someone();
        const first = stream(port, "/events", bearer(user));
        await first.begun;
        await shield.revokeSubject("example-app", user);
        sample.release();
        const answer = await first.answer;
        assert.deepEqual([answer.status, answer.body, answer.isCut], [200, "data: 1\n\n", false]);
        assert.equal((await ask(port, "GET", "/maybe")).status, 200);
      }));

    for (const path of ["/held", "/leased"]) {
      test(`a handler takes a lease of its own (${path})`, () =>
        served(async (port, shield, sample) => {
          const first = ask(port, "GET", path);
          await eventually(() => shield.runtime.keeper.size === 1);
          const second = await ask(port, "GET", path);
          assert.deepEqual([second.status, second.json().code], [429, "RATE_LIMIT_EXCEEDED"]);
          sample.release();
          assert.equal((await first).status, 200);
          await isFree(shield);
          assert.equal((await ask(port, "GET", path)).status, 200);
        }));
    }

    test("a response that has not begun is refused when its lease ends", () =>
      served(async (port, shield) => {
        const first = ask(port, "GET", "/leased");
        await eventually(() => shield.runtime.keeper.size === 1);
        const { keeper } = shield.runtime;
        const elsewhere = new GrpcTransport(quotad.target);
        const [lease] = [...(keeper as unknown as { held: Map<string, { connection: object }> }).held.values()];
        await elsewhere.call("ReleaseConnection", { connection: lease!.connection }, 10_000);
        await elsewhere.call(
          "AcquireConnection",
          { connection: { ...lease!.connection, leaseId: randomUUID() } },
          10_000,
        );
        elsewhere.close();
        const answer = await first;
        assert.deepEqual([answer.status, answer.json().code], [503, "RATE_LIMIT_UNAVAILABLE"]);
      }));

    for (const onDenied of [4429, "drop"] as const) {
      test(`messages are charged by their cost (${onDenied})`, () =>
        served(
          async (port) => {
            const socket = await Socket.open(port, "/ws/echo", bearer(someone()));
            for (const text of ["ab", "cde", "f"]) socket.client.send(text);
            if (onDenied === "drop") {
              await eventually(() => socket.messages.length === 2);
              socket.close();
            } else {
              assert.equal(await socket.closed(), 4429);
            }
            assert.deepEqual(socket.messages, ["ab", "cde"]);
          },
          { rules: [{ path: "/ws/**", messages: { policy: "ai-per-user", cost: ({ length }) => length, onDenied } }] },
        ));
    }

    test("a check that refuses in an open socket closes it", () =>
      served(async (port, shield) => {
        const socket = await Socket.open(port, "/ws/checks", bearer(someone()));
        assert.equal(await socket.closed(), 4429);
        await isFree(shield);
      }));

    test("a limit of a rule refuses a socket before it opens", async () =>
      served(
        async (port) => {
          for (let round = 0; round < 3; round += 1) {
            const socket = await Socket.open(port, "/free/echo", { "x-forwarded-for": "198.51.100.77" });
            assert.equal(socket.status, 101);
            socket.vanish();
          }
          assert.equal((await Socket.open(port, "/free/echo", { "x-forwarded-for": "198.51.100.77" })).status, 429);
        },
        { rules: [{ path: "/free/**", limits: (await import("quotad")).limit("auth-per-ip", { skip: () => false }) }] },
      ));

    test("everything is given back at the end of the process", async () => {
      const headers = bearer(someone());
      const sockets: Socket[] = [];
      await served(async (port) => {
        for (let round = 0; round < 2; round += 1) sockets.push(await Socket.open(port, "/ws/silent", headers));
      });
      for (const socket of sockets) assert.deepEqual([socket.status, await socket.closed()], [101, 1001]);
      await served(async (port) => {
        const again = await Socket.open(port, "/ws/silent", headers);
        assert.equal(again.status, 101);
        again.vanish();
      });
    });

    test("a lease that is taken after the client has left is not kept", () =>
      served(async (_, shield) => {
        const context = shield.outside();
        context.end();
        await context.lease("streams-per-user", { entries: { user: someone() } });
        assert.equal(shield.runtime.keeper.size, 0);
      }));
  });
}

/** A response that goes on; `begun` has its request once something of it has come. */
function stream(port: number, path: string, headers: Record<string, string>) {
  let answer!: Promise<Answer>;
  const begun = new Promise<import("node:http").ClientRequest>((resolve) => {
    answer = ask(port, "GET", path, { headers, onData: (_, request) => resolve(request) });
  });
  return { answer, begun };
}
