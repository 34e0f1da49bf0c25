/**
 * gRPC, the way to the service.
 *
 * Must never: send a call twice by itself. gRPC's own retries are off; a call that never left this process, or that the
 * other side says it did not take, may go out on another connection, which charges nothing twice.
 */

import { isIP } from "node:net";
import { fileURLToPath } from "node:url";

import { Client, credentials as grpcCredentials, Metadata, status } from "@grpc/grpc-js";
import type { ChannelCredentials, ChannelOptions, ServiceDefinition, ServiceError } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

import { ConfigurationError, NoDecision } from "./errors.js";
import type { Why } from "./errors.js";
import type { Rpc, Rpcs, Transport } from "./rpc.js";

const PROTO = fileURLToPath(new URL("../proto", import.meta.url));

const CHANNEL_OPTIONS: ChannelOptions = {
  "grpc.enable_retries": 0,
  // Back within two seconds of a restart: attempts come this often.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.min_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000,
  // A connection that a firewall forgot is found out in 22 seconds; the breaker stands in until then.
  "grpc.keepalive_time_ms": 20_000,
  "grpc.keepalive_timeout_ms": 2_000,
  "grpc.keepalive_permit_without_calls": 1,
  "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
  // Two shields of one process share no connection.
  "grpc.use_local_subchannel_pool": 1,
  "grpc.enable_http_proxy": 0,
};

let service: ServiceDefinition | undefined;

/** The service as the proto file in this package describes it. */
function definition(): ServiceDefinition {
  service ??= loadSync("quotad/v1/decision.proto", {
    includeDirs: [PROTO],
    longs: Number,
    enums: String,
    defaults: true,
    oneofs: true,
  })["quotad.v1.DecisionService"] as ServiceDefinition;
  return service;
}

/** A channel of one process. */
export class GrpcTransport implements Transport {
  private readonly client: Client;
  private readonly methods = definition();

  constructor(target: string, credentials?: ChannelCredentials) {
    this.client = new Client(target, credentials ?? grpcCredentials.createInsecure(), CHANNEL_OPTIONS);
  }

  call<Name extends Rpc>(rpc: Name, request: Rpcs[Name]["asked"], timeoutMs: number): Promise<Rpcs[Name]["answered"]> {
    const method = this.methods[rpc]!;
    return new Promise((resolve, reject) => {
      this.client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        new Metadata(),
        { deadline: Date.now() + timeoutMs },
        (error: ServiceError | null, answer?: Rpcs[Name]["answered"]) => {
          if (error !== null) reject(new NoDecision(why(error), `${rpc}: ${status[error.code]}`));
          else resolve(answer!);
        },
      );
    });
  }

  ready(timeoutMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      this.client.waitForReady(Date.now() + timeoutMs, (error) => resolve(error === undefined || error === null));
    });
  }

  close(): void {
    this.client.close();
  }
}

/** What a gRPC error means here. An answer of the service has headers; gRPC's own UNAVAILABLE has none. */
export function why(error: ServiceError): Why {
  switch (error.code) {
    case status.INVALID_ARGUMENT:
    case status.OUT_OF_RANGE:
      return "malformed";
    case status.NOT_FOUND:
    case status.UNIMPLEMENTED:
    case status.FAILED_PRECONDITION:
      return "not configured";
    case status.DEADLINE_EXCEEDED:
    case status.CANCELLED:
      return "away";
    default:
      return Object.keys(error.metadata?.getMap() ?? {}).length > 0 ? "undecided" : "away";
  }
}

/** Plain text carries tokens, so it may only go where nobody else listens. */
export function checkTarget(target: string, insecure: boolean): void {
  if (target === "") throw new ConfigurationError("target is empty; give HOST:PORT or unix:/path of quotad");
  if (insecure || target.startsWith("unix:")) return;
  const host = target
    .slice(target.lastIndexOf("/") + 1)
    .replace(/:\d+$/, "")
    .replace(/^\[|\]$/g, "");
  if (host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."))) return;
  throw new ConfigurationError(
    `target ${JSON.stringify(target)} is not on this machine: tokens would cross the network in plain text. ` +
      "Give credentials: credentials.createSsl(...), or insecure: true inside a network that encrypts by itself",
  );
}
