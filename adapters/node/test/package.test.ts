/** The package as others get it: packed, installed into an empty project, the README's examples. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { OPTION_NAMES } from "../dist/settings.js";
import { ask, BINARY, eventually, folder, freePort, PACKAGE, Program, ROOT } from "./support.js";

const README = readFileSync(join(PACKAGE, "README.md"), "utf8");
const EXAMPLES = [...README.matchAll(/```js\n([^]*?)```/g)].map(([, text]) => text!);

function run(command: string, args: readonly string[], cwd: string): string {
  return execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], timeout: 240_000 });
}

for (const [number, example] of EXAMPLES.entries()) {
  test(`example ${number} of the README runs: ${/new \w+\(|z\.object/.exec(example)?.[0]}`, async () => {
    // Inside the package, so that it finds itself and what it is developed with.
    const file = join(PACKAGE, "dist-test", `example-${number}.mjs`);
    const port = await freePort();
    writeFileSync(file, `${example.replaceAll("8000", String(port))}\nprocess.exit(0);\n`);
    run(process.execPath, [file], PACKAGE);
  });
}

test("every warning has its section, and every setting is in the README", () => {
  const code = readdirSync(join(PACKAGE, "src"))
    .filter((name) => name.endsWith(".ts"))
    .map((name) => readFileSync(join(PACKAGE, "src", name), "utf8"))
    .join("\n");
  const said = new Set([...code.matchAll(/"(W\d{3})"/g)].map(([, code]) => code!));
  const help = readFileSync(join(ROOT, "docs", "adapters", "warnings.md"), "utf8");
  assert.ok(said.size >= 9);
  for (const code of said) assert.match(help, new RegExp(`^## ${code}$`, "m"));
  const known = ["domain", "credentials", "insecure", "identityHeaders", "corsCredentials"];
  assert.deepEqual(
    OPTION_NAMES.filter((name) => !README.includes(name) && !known.includes(name)),
    [],
  );
});

test("the pack works in an empty project with the first example", async () => {
  const where = folder();
  run("npm", ["pack", "--ignore-scripts", "--pack-destination", where], PACKAGE);
  const [pack] = readdirSync(where);
  const project = join(where, "project");
  mkdirSync(project);
  writeFileSync(join(project, "package.json"), '{"private": true, "type": "module"}');
  // The newest versions that there are: the other tests run with pinned ones.
  run("npm", ["install", "--no-audit", "--no-fund", "--ignore-scripts", join(where, pack!), "express"], project);
  const port = await freePort();
  const quotadPort = await freePort();
  const example = EXAMPLES[0]!.replace("8000", String(port)).replace("50051", String(quotadPort));
  writeFileSync(join(project, "main.js"), `${example}\nconsole.log("listening");\n`);
  const config = join(where, "quotad.yaml");
  writeFileSync(config, readFileSync(join(ROOT, "config", "quotad.yaml"), "utf8"));
  const args = ["--config", config, "--listen", `127.0.0.1:${quotadPort}`];
  const quotad = await new Program(BINARY, args, {}, where).says(/^ready in/m);
  const server = await new Program(process.execPath, ["main.js"], {}, project).says(/listening/);
  const answers: number[] = [];
  // A deadline of 50 ms may pass on a busy machine: that request is a 503, and charges nothing or one.
  await eventually(async () => {
    answers.push((await ask(port, "POST", "/login", { headers: { "x-forwarded-for": "198.51.100.1" } })).status);
    return answers.includes(429);
  });
  assert.ok(answers.filter((status) => status === 200).length <= 10);
  assert.deepEqual(new Set(answers.filter((status) => status !== 503)), new Set([200, 429]));
  await server.stop();
  await quotad.stop();

  // As TypeScript sees it, without the frameworks that it does not use.
  const strict = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2023", "--types", "node"];
  writeFileSync(
    join(project, "types.ts"),
    `import { limit, local, Shield } from "quotad";
     const shield = new Shield("127.0.0.1:1", { environment: "development", rules: [{ path: "/", limits: limit("a") }] });
     const left: number | undefined = (await shield.check("a")).statuses[0]?.remaining;
     limit("a", { cost: (request) => Number(request.headers["content-length"]), settle: () => left });
     // @ts-expect-error no such setting
     new Shield("x", { orgins: [] });
     void local;`,
  );
  const tools = join(PACKAGE, "node_modules");
  run(
    process.execPath,
    [join(tools, "typescript", "bin", "tsc"), ...strict, "--typeRoots", join(tools, "@types"), "types.ts"],
    project,
  );
});
