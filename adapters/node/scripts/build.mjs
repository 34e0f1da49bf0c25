// Makes dist/: the types of the proto file, the proto file itself for the run time, and the compiled sources.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const shared = fileURLToPath(new URL("../../../proto", import.meta.url));
const file = "quotad/v1/decision.proto";
const run = (program, ...args) => execFileSync(process.execPath, [program, ...args], { cwd: root, stdio: "inherit" });

rmSync(`${root}/dist`, { recursive: true, force: true });
if (existsSync(`${shared}/${file}`)) {
  cpSync(`${shared}/${file}`, `${root}/proto/${file}`);
}
rmSync(`${root}/src/v1`, { recursive: true, force: true });
run(
  "node_modules/@grpc/proto-loader/build/bin/proto-loader-gen-types.js",
  ...["--longs=Number", "--enums=String", "--defaults", "--oneofs", "--grpcLib=@grpc/grpc-js"],
  ...["--importFileExtension=.js", "-I", "proto", "-O", "src/v1", file],
);
run("node_modules/typescript/bin/tsc", "-p", "tsconfig.json");
