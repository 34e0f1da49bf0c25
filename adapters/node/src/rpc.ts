/** The calls of `quotad.v1.DecisionService` that the adapter makes, and what they ask and answer. */

import type { AcquireConnectionRequest } from "./v1/quotad/v1/AcquireConnectionRequest.js";
import type { AcquireConnectionResponse__Output } from "./v1/quotad/v1/AcquireConnectionResponse.js";
import type { AuthorizeRequest } from "./v1/quotad/v1/AuthorizeRequest.js";
import type { AuthorizeResponse__Output } from "./v1/quotad/v1/AuthorizeResponse.js";
import type { CheckLimitRequest } from "./v1/quotad/v1/CheckLimitRequest.js";
import type { CheckLimitResponse__Output } from "./v1/quotad/v1/CheckLimitResponse.js";
import type { Claims__Output } from "./v1/quotad/v1/Claims.js";
import type { Connection, Connection__Output } from "./v1/quotad/v1/Connection.js";
import type { Decision__Output } from "./v1/quotad/v1/Decision.js";
import type { Lease__Output } from "./v1/quotad/v1/Lease.js";
import type { PolicyStatus__Output } from "./v1/quotad/v1/PolicyStatus.js";
import type { ReleaseConnectionRequest } from "./v1/quotad/v1/ReleaseConnectionRequest.js";
import type { ReleaseConnectionResponse__Output } from "./v1/quotad/v1/ReleaseConnectionResponse.js";
import type { RenewConnectionsRequest } from "./v1/quotad/v1/RenewConnectionsRequest.js";
import type { RenewConnectionsResponse__Output } from "./v1/quotad/v1/RenewConnectionsResponse.js";
import type { RevokeTokenRequest } from "./v1/quotad/v1/RevokeTokenRequest.js";
import type { RevokeTokenResponse__Output } from "./v1/quotad/v1/RevokeTokenResponse.js";
import type { SettleCostRequest } from "./v1/quotad/v1/SettleCostRequest.js";
import type { SettleCostResponse__Output } from "./v1/quotad/v1/SettleCostResponse.js";
import type { TokenReference } from "./v1/quotad/v1/TokenReference.js";

export type {
  AcquireConnectionRequest,
  AuthorizeRequest,
  AuthorizeResponse__Output,
  CheckLimitRequest,
  Claims__Output,
  Connection,
  Connection__Output,
  Decision__Output,
  Lease__Output,
  PolicyStatus__Output,
  ReleaseConnectionRequest,
  RenewConnectionsRequest,
  RenewConnectionsResponse__Output,
  RevokeTokenRequest,
  SettleCostRequest,
  SettleCostResponse__Output,
  TokenReference,
};

/** Method by name: what is asked, what is answered. */
export interface Rpcs {
  Authorize: { asked: AuthorizeRequest; answered: AuthorizeResponse__Output };
  CheckLimit: { asked: CheckLimitRequest; answered: CheckLimitResponse__Output };
  AcquireConnection: { asked: AcquireConnectionRequest; answered: AcquireConnectionResponse__Output };
  RenewConnections: { asked: RenewConnectionsRequest; answered: RenewConnectionsResponse__Output };
  ReleaseConnection: { asked: ReleaseConnectionRequest; answered: ReleaseConnectionResponse__Output };
  RevokeToken: { asked: RevokeTokenRequest; answered: RevokeTokenResponse__Output };
  SettleCost: { asked: SettleCostRequest; answered: SettleCostResponse__Output };
}

export type Rpc = keyof Rpcs;

/** What carries calls: gRPC, or the fake of `quotad/testing`. */
export interface Transport {
  /** One call. Throws `NoDecision` when there is no answer. */
  call<Name extends Rpc>(rpc: Name, request: Rpcs[Name]["asked"], timeoutMs: number): Promise<Rpcs[Name]["answered"]>;
  /** Connects, so that the first request need not wait for it. */
  ready(timeoutMs: number): Promise<boolean>;
  close(): void;
}
