/**
 * Pings of all open sockets, by one timer: a client that vanished without a word would else hold its lease for as long as
 * this process lives.
 */

/** What of a `ws` is used here. */
interface Pinged {
  readonly isPaused: boolean;
  ping(): void;
  terminate(): void;
  on(event: "pong" | "message" | "ping", listener: () => void): unknown;
  once(event: "close", listener: () => void): unknown;
}

export class Heart {
  private readonly quiet = new Map<Pinged, boolean>();
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly everyMs: number) {}

  watch(socket: Pinged): void {
    if (this.everyMs === 0) return;
    this.quiet.set(socket, false);
    for (const event of ["pong", "message", "ping"] as const) socket.on(event, () => this.quiet.set(socket, false));
    socket.once("close", () => this.forget(socket));
    this.timer ??= setInterval(() => this.beat(), this.everyMs).unref();
  }

  /** One round: whoever said nothing since the last one is gone. What a paused socket says, nobody hears. */
  beat(): void {
    for (const [socket, isQuiet] of this.quiet) {
      if (isQuiet && !socket.isPaused) {
        socket.terminate();
      } else {
        this.quiet.set(socket, true);
        socket.ping();
      }
    }
  }

  close(): void {
    clearInterval(this.timer);
    this.quiet.clear();
  }

  private forget(socket: Pinged): void {
    this.quiet.delete(socket);
    if (this.quiet.size === 0) {
      clearInterval(this.timer);
      this.timer = undefined;
    }
  }
}
