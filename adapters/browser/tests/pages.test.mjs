// What the security headers do to pages of the application: scripts, frames, and FastAPI's documentation.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { after, before, describe, test } from "node:test";
import { World } from "./support/world.mjs";

const SWAGGER = { "swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css" };
const SERVES_DOCS = !process.env.BROWSER_APPLICATION;

describe("pages", () => {
  let world;
  before(async () => {
    world = await World.start();
  });
  after(() => world?.stop());

  const ran = (page) => page.evaluate(() => document.documentElement.dataset.script);

  test("an inline script does not run", async () => {
    const page = await world.open(`${world.api}/page`);
    assert.equal(await page.textContent("p"), "A page.");
    assert.equal(await ran(page), undefined);
    assert.deepEqual(page.seen.violations, [{ directive: "script-src-elem", blocked: "inline" }]);
    // The same page without the headers.
    assert.equal(await ran(await world.open(`${world.pages.allowed}/inline`)), "ran");
  });

  test("no page of another origin frames one of the application's", async () => {
    // By frame-ancestors; and by X-Frame-Options alone, where the page has a policy without it.
    for (const path of ["/page", "/pages/own-policy"]) {
      const page = await world.open(world.pages.allowed);
      assert.equal(await framed(page, world.api + path), "chrome-error://chromewebdata/", path);
      assert.match(page.seen.errors.join("\n"), path === "/page" ? /frame-ancestors/ : /X-Frame-Options/);
    }
    const page = await world.open(world.pages.allowed);
    assert.equal(await framed(page, `${world.pages.foreign}/`), `${world.pages.foreign}/`);
  });

  /** FastAPI's own page, whose script and style come from a network of others; here they come from their package. */
  async function documentation(origin) {
    const page = await world.open("about:blank");
    for (const [name, type] of Object.entries(SWAGGER)) {
      const url = `https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/${name}`;
      const body = readFileSync(fileURLToPath(import.meta.resolve(`swagger-ui-dist/${name}`)));
      await page.route(url, (route) => route.fulfill({ body, contentType: type }));
    }
    const icon = "https://fastapi.tiangolo.com/img/favicon.png";
    await page.route(icon, (route) => route.fulfill({ body: "", contentType: "image/png" }));
    await page.goto(`${origin}/docs`);
    return page;
  }

  test("FastAPI's /docs works outside production", { skip: !SERVES_DOCS && "not FastAPI" }, async () => {
    const { target } = world.quotad;
    for (const environment of ["development", "staging"]) {
      const application = await world.serve({ target, environment });
      const page = await documentation(application.origin);
      const operation = page.locator("#operations-default-plain_plain_get");
      await operation.locator("button.opblock-summary-control").click();
      await operation.locator("button.try-out__btn").click();
      await operation.locator("button.execute").click();
      await operation.locator(".live-responses-table .response-col_status", { hasText: "200" }).waitFor();
      assert.deepEqual(page.seen, { errors: [], violations: [] }, environment);
    }
  });

  test("in production its script does not load", { skip: !SERVES_DOCS && "not FastAPI" }, async () => {
    const page = await documentation(world.api);
    const blocked = page.seen.violations.map(({ blocked }) => blocked);
    assert.ok(blocked.includes("https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/swagger-ui-bundle.js"), blocked.join());
    assert.equal(await page.locator("#swagger-ui > *").count(), 0);
  });
});

/** Where a frame for `url` has ended up once it is loaded; an error page loads too. */
async function framed(page, url) {
  const frame = await page.evaluateHandle(async (url) => {
    const frame = Object.assign(document.createElement("iframe"), { src: url });
    const loaded = new Promise((resolve) => frame.addEventListener("load", resolve));
    document.body.append(frame);
    await loaded;
    return frame;
  }, url);
  return (await frame.contentFrame()).url();
}
