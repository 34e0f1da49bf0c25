/** Warnings: each has a code and a section of docs/adapters/warnings.md, and is said once a process. */

/** In quotad's own tree. */
const HELP = "docs/adapters/warnings.md";

export type Warn = (text: string) => void;

/** Says each code once; a change of state, such as the breaker's, each time it happens. */
export class Notices {
  private readonly said = new Set<string>();

  constructor(private readonly warn: Warn) {}

  once(code: string, text: string): void {
    if (!this.said.has(code)) {
      this.said.add(code);
      this.change(code, text);
    }
  }

  change(code: string, text: string): void {
    this.warn(`quotad: ${code}: ${text} (${HELP}#${code.toLowerCase()})`);
  }
}
