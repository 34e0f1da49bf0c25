/** What belongs to one shield in one process: channel, breaker, leases, reservations. */

import { Client } from "./client.js";
import { Events } from "./events.js";
import { Heart } from "./heart.js";
import { spelling } from "./identity.js";
import { Keeper } from "./leases.js";
import { Settler } from "./settle.js";
import type { Settings } from "./settings.js";
import { GrpcTransport } from "./transport.js";

/** How long a start waits for the connection; then it goes on without. */
export const WARM_MS = 1_000;

export class Runtime {
  readonly events: Events;
  readonly client: Client;
  readonly keeper: Keeper;
  readonly settler: Settler;
  readonly heart: Heart;
  /**
   * Headers that clients may not send, by their letters and digits: those of the settings, and what the service has named
   * since. Bounded by the service's configuration, because a client's spellings of one are one.
   */
  readonly identity: Set<string>;

  constructor(private readonly settings: Settings) {
    this.events = new Events(settings.onEvent);
    const transport = settings.transport ?? new GrpcTransport(settings.target, settings.credentials);
    this.client = new Client(transport, this.events, settings.notices);
    this.keeper = new Keeper(this.client, this.events);
    this.settler = new Settler(this.client, this.events, settings.notices);
    this.heart = new Heart(settings.pingMs);
    this.identity = new Set(settings.identity.map(spelling));
  }

  async ready(): Promise<boolean> {
    const isReady = await this.client.ready(WARM_MS);
    if (!isReady) {
      const { notices, target } = this.settings;
      notices.once("W203", `quotad at ${target} did not answer within ${WARM_MS / 1_000} s of the start`);
    }
    return isReady;
  }

  async close(): Promise<void> {
    this.heart.close();
    await Promise.all([this.keeper.close(), this.settler.close()]);
    this.client.close();
  }
}
