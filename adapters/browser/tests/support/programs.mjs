// Programs that a test starts: stopped by their process ids, at the latest when the test's own process ends.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

/** How long anything may take that is waited for, in milliseconds: a busy machine starts nothing quickly. */
export const PATIENCE_MS = 60_000;

const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => process.exit(1));

/** Waits until `look` returns something true, and returns that. */
export async function until(what, look) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await pause(20); // between two looks
  }
}

export async function freePort() {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  await once(listener, "close");
  return port;
}

export class Program {
  constructor(command, args, env = {}) {
    this.lines = [];
    this.child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    this.gone = new Promise((resolve) => {
      this.child.once("error", (error) => resolve(`${command}: ${error.message}`));
      this.child.once("exit", (code, signal) => resolve(`${command} ended with ${code ?? signal}`));
    });
    this.gone.then((why) => {
      this.end = why;
      running.delete(this.child);
    });
    running.add(this.child);
    for (const stream of [this.child.stdout, this.child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => this.lines.push(line));
    }
  }

  /** Waits until `look` returns something true; a program that ends before that fails with its output. */
  async ready(what, look) {
    return until(what, async () => {
      const seen = await look();
      if (!seen && this.end) throw new Error(`${this.end}:\n${this.lines.join("\n")}`);
      return seen;
    });
  }

  async stop() {
    this.child.kill("SIGKILL");
    await this.gone;
  }
}
