// WebSockets, which CORS does not cover: who may open one, and how many.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { until } from "./support/programs.mjs";
import { token } from "./support/servers.mjs";
import { World } from "./support/world.mjs";

describe("sockets", () => {
  let world;
  before(async () => {
    world = await World.start();
  });
  after(() => world?.stop());

  const url = (user) => `${world.api.replace("https", "wss")}/ws/echo?token=${token(user)}`;

  test("a foreign origin opens none, the allowed one does", async () => {
    const target = url("ann");
    const foreign = await world.open(world.pages.foreign);
    assert.deepEqual(await open(foreign, target), { opened: false, code: 1006 });
    assert.match(foreign.seen.errors.join("\n"), /Unexpected response code: 403/);
    const allowed = await world.open(world.pages.allowed);
    assert.deepEqual(await open(allowed, target), { opened: true, echo: "hello" });
  });

  test("the sixth of a user is refused, until one of the five is closed", async () => {
    const target = url("carol");
    const page = await world.open(world.pages.allowed);
    for (let number = 1; number <= 5; number += 1) {
      assert.deepEqual(await open(page, target), { opened: true, echo: "hello" }, `number ${number}`);
    }
    assert.deepEqual(await open(page, target), { opened: false, code: 1006 });
    assert.match(page.seen.errors.join("\n"), /Unexpected response code: 429/);
    // Another user is not affected.
    assert.equal((await open(page, url("dora"))).opened, true);
    await page.evaluate(() => window.sockets[0].close());
    await until("a socket opens again", async () => (await open(page, target)).opened);
    assert.equal((await open(page, target)).opened, false);
  });
});

/** Opens a socket and keeps it in `window.sockets`; says what a script of the page sees of it. */
function open(page, url) {
  return page.evaluate(
    (url) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url);
        (window.sockets ??= []).push(socket);
        socket.onopen = () => socket.send("hello");
        socket.onmessage = (event) => resolve({ opened: true, echo: event.data });
        socket.onclose = (event) => resolve({ opened: false, code: event.code });
      }),
    url,
  );
}
