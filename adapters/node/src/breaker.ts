/**
 * The circuit breaker: a service that stalls costs its deadline a few times, not for each request.
 *
 * Promise: after `FAILURES` in a row no call waits, but one every `OPEN_MS` that tries. That pause is short and does not
 * grow, because a service that is back must be asked again within two seconds.
 */

export const FAILURES = 5;
export const OPEN_MS = 1_000;

export class Breaker {
  private failures = 0;
  private nextTry: number | undefined;

  /** `clock`: milliseconds that never go back. */
  constructor(
    private readonly changed: (isOpen: boolean) => void = () => {},
    private readonly clock: () => number = () => performance.now(),
  ) {}

  get isOpen(): boolean {
    return this.nextTry !== undefined;
  }

  /** Whether to call. While it is open, true is said once a pause: that call is the try. */
  admits(): boolean {
    if (this.nextTry === undefined) return true;
    const now = this.clock();
    if (now < this.nextTry) return false;
    this.nextTry = now + OPEN_MS;
    return true;
  }

  failed(): void {
    this.failures += 1;
    const wasOpen = this.isOpen;
    if (!wasOpen && this.failures < FAILURES) return;
    this.nextTry = this.clock() + OPEN_MS;
    if (!wasOpen) this.changed(true);
  }

  succeeded(): void {
    this.failures = 0;
    if (this.nextTry === undefined) return;
    this.nextTry = undefined;
    this.changed(false);
  }
}
