// Builds, compiles the tests and runs them, one file after the other: node scripts/test.mjs [FILE-PATTERN] [NODE-OPTION...]
import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const [first, ...more] = process.argv.slice(2);
const pattern = first?.startsWith("-") === false ? first : "";
const options = pattern === "" && first !== undefined ? [first, ...more] : more;
execFileSync(process.execPath, ["scripts/build.mjs"], { cwd: root, stdio: "inherit" });
rmSync(`${root}/dist-test`, { recursive: true, force: true });
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "test"], { cwd: root, stdio: "inherit" });
const files = readdirSync(`${root}/dist-test`).filter((file) => file.endsWith(".test.js") && file.includes(pattern));
if (files.length === 0) throw new Error(`no test file has ${pattern} in its name`);
const run = [
  "--test",
  "--test-concurrency=1",
  "--test-timeout=600000",
  "--test-force-exit",
  ...options,
  ...files.map((file) => `dist-test/${file}`),
];
process.exit(spawnSync(process.execPath, run, { cwd: root, stdio: "inherit" }).status ?? 1);
