/**
 * All open sockets of this process: pinged by one timer, because a client that vanished without a word would else hold its
 * lease for as long as the process lives; and closed at the end, because a server waits for them.
 */

const GOING_AWAY = 1001;
/** How long a client may take to answer our close at the end of the process. */
const GRACE_MS = 1_000;

/** What of a `ws` is used here. */
interface Pinged {
  readonly isPaused: boolean;
  ping(): void;
  close(code: number, reason: string): void;
  terminate(): void;
  on(event: "pong" | "message" | "ping", listener: () => void): unknown;
  once(event: "close", listener: () => void): unknown;
}

export class Heart {
  private readonly quiet = new Map<Pinged, boolean>();
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly everyMs: number) {}

  watch(socket: Pinged): void {
    this.quiet.set(socket, false);
    for (const event of ["pong", "message", "ping"] as const) socket.on(event, () => this.quiet.set(socket, false));
    socket.once("close", () => this.forget(socket));
    if (this.everyMs > 0) this.timer ??= setInterval(() => this.beat(), this.everyMs).unref();
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

  /** Says goodbye to all. */
  close(): void {
    clearInterval(this.timer);
    for (const socket of this.quiet.keys()) {
      const timer = setTimeout(() => socket.terminate(), GRACE_MS);
      socket.once("close", () => clearTimeout(timer));
      socket.close(GOING_AWAY, "going away");
    }
  }

  private forget(socket: Pinged): void {
    this.quiet.delete(socket);
    if (this.quiet.size === 0) {
      clearInterval(this.timer);
      this.timer = undefined;
    }
  }
}
