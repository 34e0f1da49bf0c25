// What every file of tests works with: a quotad, an application, pages of two sites, a browser.

import { chromium } from "playwright-core";
import { PATIENCE_MS, until } from "./programs.mjs";
import { Folder, startApplication, startPages, startQuotad } from "./servers.mjs";

const CHROMIUM = process.env.QUOTAD_CHROMIUM ?? "/usr/bin/chromium";

export class World {
  static async start() {
    const world = new World();
    world.stops = [];
    try {
      world.folder = new Folder();
      world.stops.push(() => world.folder.remove());
      world.quotad = await world.keep(startQuotad(world.folder));
      world.pages = await world.keep(startPages(world.folder));
      world.application = await world.serve({ target: world.quotad.target });
      world.browser = await chromium.launch({
        executablePath: CHROMIUM,
        args: [
          // No name is looked up, and nothing else is reached.
          "--host-resolver-rules=MAP *.example.test 127.0.0.1, MAP foreign.test 127.0.0.1, MAP * ~NOTFOUND",
          `--ignore-certificate-errors-spki-list=${world.folder.fingerprint}`,
        ],
        timeout: PATIENCE_MS,
      });
      world.stops.push(() => world.browser.close());
    } catch (error) {
      await world.stop();
      throw error;
    }
    return world;
  }

  get api() {
    return this.application.origin;
  }

  async keep(starting) {
    const started = await starting;
    this.stops.push(() => started.stop());
    return started;
  }

  /** A further application; `environment` and `target` as said. */
  serve(options) {
    return this.keep(startApplication(this.folder, { origins: this.pages.allowed, ...options }));
  }

  /** An application whose quotad has gone. */
  async serveAlone() {
    const gone = await startQuotad(this.folder);
    await gone.stop();
    return this.serve({ target: gone.target });
  }

  /** A page in a profile of its own, with `seen`: what the console said, and what a content security policy forbade. */
  async open(url) {
    const context = await this.browser.newContext();
    context.setDefaultTimeout(PATIENCE_MS);
    const page = await context.newPage();
    page.seen = { errors: [], violations: [] };
    page.on("console", (message) => message.type() === "error" && page.seen.errors.push(message.text()));
    page.on("pageerror", (error) => page.seen.errors.push(String(error)));
    await page.exposeFunction("told", (violation) => page.seen.violations.push(violation));
    await page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        window.told({ directive: event.effectiveDirective, blocked: event.blockedURI });
      });
    });
    await page.goto(url);
    return page;
  }

  async stop() {
    for (const stop of this.stops.reverse()) await stop();
  }
}

/** What a script of the page gets when it fetches: the response as far as it may read it, or the error's name. */
export function read(page, url, options = {}) {
  return page.evaluate(
    async ([url, options]) => {
      try {
        const response = await fetch(url, options);
        const headers = Object.fromEntries(response.headers);
        return { status: response.status, headers, body: await response.text() };
      } catch (error) {
        return { error: error.name };
      }
    },
    [url, options],
  );
}

/** What the network did for a page's requests: preflights with their answers, and why CORS refused. It is told of a
 * moment after the script is: `preflighted(n)` and `refused(n)` wait for that many. */
export async function network(page) {
  const session = await page.context().newCDPSession(page);
  const seen = { preflights: [], refusals: [] };
  const asked = new Map();
  session.on("Network.requestWillBeSent", ({ requestId, initiator, request }) => {
    if (initiator.type === "preflight") asked.set(requestId, request);
  });
  session.on("Network.responseReceived", ({ requestId, response }) => {
    if (asked.has(requestId)) seen.preflights.push({ method: asked.get(requestId).method, status: response.status });
  });
  session.on("Network.loadingFailed", ({ requestId, corsErrorStatus }) => {
    if (!asked.has(requestId)) seen.refusals.push(corsErrorStatus?.corsError ?? "none");
  });
  await session.send("Network.enable");
  const come = (list, number) => until(`${number} are told of`, () => list.length >= number).then(() => list);
  return {
    preflighted: (number) => come(seen.preflights, number),
    refused: (number) => come(seen.refusals, number),
  };
}
