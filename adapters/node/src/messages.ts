/**
 * A limit on what a socket's client sends: each message is charged before the handler sees it, in its order.
 *
 * Bound: while one is asked about, `MESSAGES` messages and `BYTES` bytes may wait; then the transport is not read.
 */

import type { RawData, WebSocket } from "ws";

import type { Context } from "./context.js";
import { RateLimitExceeded } from "./errors.js";
import { wholeUnits } from "./limit.js";
import type { Messages } from "./rules.js";

const MESSAGES = 16;
const BYTES = 256 * 1024;
const LIMITED = 4429;

type Emit = (event: string | symbol, ...args: unknown[]) => boolean;

interface Message {
  readonly content: Buffer;
  readonly isBinary: boolean;
  readonly deliver: () => void;
}

export function limitMessages(context: Context, socket: WebSocket, limit: Messages): void {
  const emit = socket.emit.bind(socket) as Emit;
  const gate = new Gate(context, socket, limit);
  socket.emit = ((event: string | symbol, ...args: unknown[]): boolean => {
    if (event === "message") {
      const content = bytes(args[0] as RawData);
      gate.push({ content, isBinary: args[1] === true, deliver: () => void emit(event, ...args) });
      return true;
    }
    // The end comes after what came before it.
    if (event === "close" && gate.isBusy) {
      gate.atEnd(() => void emit(event, ...args));
      return true;
    }
    return emit(event, ...args);
  }) as WebSocket["emit"];
}

class Gate {
  private readonly waiting: Message[] = [];
  private size = 0;
  isBusy = false;
  private isShut = false;
  private isHeldBack = false;
  private end: (() => void) | undefined;

  constructor(
    private readonly context: Context,
    private readonly socket: WebSocket,
    private readonly limit: Messages,
  ) {}

  push(message: Message): void {
    if (this.isShut) return;
    this.waiting.push(message);
    this.size += message.content.length;
    if ((this.waiting.length >= MESSAGES || this.size >= BYTES) && !this.isHeldBack && !this.socket.isPaused) {
      this.isHeldBack = true;
      this.socket.pause();
    }
    if (!this.isBusy) void this.work();
  }

  atEnd(end: () => void): void {
    this.end = end;
  }

  private async work(): Promise<void> {
    this.isBusy = true;
    for (let message = this.waiting.shift(); message !== undefined; message = this.waiting.shift()) {
      const isAdmitted = await this.admits(message);
      this.size -= message.content.length;
      if (this.isShut) break;
      if (isAdmitted) message.deliver();
      else if (this.limit.onDenied !== "drop") this.shut();
      if (this.isHeldBack && this.waiting.length < MESSAGES && this.size < BYTES) {
        this.isHeldBack = false;
        this.socket.resume();
      }
    }
    this.isBusy = false;
    this.end?.();
  }

  private async admits({ content, isBinary }: Message): Promise<boolean> {
    const { cost = 1, policy } = this.limit;
    // The refusal of a message is this gate's to answer.
    const { onRefused } = this.context;
    this.context.onRefused = undefined;
    try {
      const units = wholeUnits(typeof cost === "function" ? cost(content, isBinary) : cost);
      await this.context.check(policy, { cost: units ?? 1 });
      return true;
    } catch (error) {
      if (!(error instanceof RateLimitExceeded)) console.error("quotad: a message could not be charged", error);
      return false;
    } finally {
      this.context.onRefused = onRefused;
      this.context.decisions.length = 0;
    }
  }

  private shut(): void {
    const { onDenied = LIMITED } = this.limit;
    this.isShut = true;
    this.waiting.length = 0;
    this.context.end();
    if (this.isHeldBack) this.socket.resume();
    if (this.socket.readyState === this.socket.OPEN) this.socket.close(Number(onDenied), "rate_limit_exceeded");
  }
}

function bytes(data: RawData): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}
