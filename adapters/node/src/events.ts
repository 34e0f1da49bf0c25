/** What an application may want to count: typed events for one callback. None holds a token, an address or a query. */

/** An answer of the service. */
export interface Decided {
  readonly kind: "decided";
  readonly rpc: "Authorize" | "CheckLimit" | "AcquireConnection";
  readonly allowed: boolean;
  readonly reason: string;
  readonly mode: string;
  readonly route: string;
  readonly policies: readonly string[];
  readonly seconds: number;
}

/** No answer; `handled` says what was done. */
export interface Unavailable {
  readonly kind: "unavailable";
  readonly why: string;
  readonly handled: "open" | "closed" | "local";
}

export interface BreakerChanged {
  readonly kind: "breaker changed";
  readonly isOpen: boolean;
}

export interface LeaseEnded {
  readonly kind: "lease ended";
  readonly state: "released" | "lost" | "revoked" | "expired";
}

/** What became of a reservation: `unsettled` stays charged as it was reserved. */
export interface Settled {
  readonly kind: "settled";
  readonly state: "settled" | "too_late" | "unsettled";
}

export type QuotadEvent = Decided | Unavailable | BreakerChanged | LeaseEnded | Settled;

/** Hands events to the application's callback. A callback that throws is logged and harms no request. */
export class Events {
  constructor(private readonly callback: ((event: QuotadEvent) => void) | undefined) {}

  emit(event: QuotadEvent): void {
    try {
      this.callback?.(event);
    } catch (error) {
      console.error("quotad: onEvent threw", error);
    }
  }
}
