// What the browser does with the cookies of a session: who may read them, where they go, and that they can be deleted.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { token } from "./support/servers.mjs";
import { read, World } from "./support/world.mjs";

const NAMES = ["__Host-session", "__Secure-refresh_token"];

describe("cookies", () => {
  let world;
  before(async () => {
    world = await World.start();
  });
  after(() => world?.stop());

  /** A page of the application's own front end, logged in. */
  async function loggedIn() {
    const page = await world.open(world.pages.allowed);
    const login = await read(page, `${world.api}/session/login`, { method: "POST", credentials: "include" });
    assert.equal(login.status, 200);
    return page;
  }

  const kept = async (page) => (await page.context().cookies()).sort((a, b) => a.name.localeCompare(b.name));
  const shown = async (page) => JSON.parse(await page.textContent("body"));

  test("they are Secure, HttpOnly and Strict, and no script of their own host reads them", async () => {
    const page = await loggedIn();
    assert.deepEqual(
      (await kept(page)).map(({ name, domain, path, secure, httpOnly, sameSite }) => {
        return { name, domain, path, secure, httpOnly, sameSite };
      }),
      [
        { name: NAMES[0], path: "/" },
        { name: NAMES[1], path: "/session" },
      ].map((one) => ({ ...one, domain: "api.example.test", secure: true, httpOnly: true, sameSite: "Strict" })),
    );
    await page.goto(`${world.api}/session/cookies`);
    assert.deepEqual(await shown(page), NAMES);
    assert.equal(await page.evaluate(() => document.cookie), "");
  });

  test("they come along from their own site, and only where they belong", async () => {
    const page = await loggedIn();
    const [request] = await Promise.all([
      page.waitForRequest((request) => request.url().endsWith("/plain")),
      read(page, `${world.api}/plain`, { credentials: "include" }),
    ]);
    // The one of a path is not sent elsewhere.
    assert.match((await request.allHeaders()).cookie, /^__Host-session=[0-9a-f]+$/);
    await follow(page, `${world.api}/session/cookies`);
    assert.deepEqual(await shown(page), NAMES);
  });

  test("they do not come along from another site: by script, by link or by form", async () => {
    const page = await loggedIn();
    const url = `${world.api}/session/cookies`;
    await page.goto(world.pages.foreign);
    const [request] = await Promise.all([
      page.waitForRequest(url),
      page.evaluate((url) => fetch(url, { mode: "no-cors", credentials: "include" }).then(() => null), url),
    ]);
    assert.equal((await request.allHeaders()).cookie, undefined);
    await follow(page, url);
    assert.deepEqual(await shown(page), []);
    await page.goto(world.pages.foreign);
    await submit(page, url);
    assert.deepEqual(await shown(page), []);
    // They were there all the time.
    assert.deepEqual((await kept(page)).map(({ name }) => name), NAMES);
  });

  test("logging out deletes them and revokes the token", async () => {
    const page = await loggedIn();
    const headers = { authorization: `Bearer ${token("bob")}` };
    assert.equal((await read(page, `${world.api}/me`, { headers })).status, 200);
    const logout = { method: "POST", credentials: "include", headers };
    assert.equal((await read(page, `${world.api}/session/logout`, logout)).status, 200);
    assert.deepEqual(await kept(page), []);
    const refused = await read(page, `${world.api}/me`, { headers });
    assert.deepEqual([refused.status, JSON.parse(refused.body).code], [401, "TOKEN_INVALID"]);
  });
});

/** As a person does: the page's own link, so the page's site is who asks. */
async function follow(page, url) {
  await page.evaluate((url) => {
    const link = Object.assign(document.createElement("a"), { href: url, textContent: "go" });
    document.body.append(link);
  }, url);
  await Promise.all([page.waitForURL(url), page.click("a")]);
}

async function submit(page, url) {
  await page.evaluate((url) => {
    const form = Object.assign(document.createElement("form"), { action: url, method: "post" });
    form.append(Object.assign(document.createElement("button"), { textContent: "go" }));
    document.body.append(form);
  }, url);
  await Promise.all([page.waitForURL(url), page.click("button")]);
}
