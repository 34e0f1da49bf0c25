/** Answers that the adapter must give without the service: byte for byte what the service would have sent. */

import type { Decision } from "./decision.js";
import type { Headers } from "./headers.js";

const TEMPORARY = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
const QUOTA = "https://iana.org/assignments/http-problem-types#quota-exceeded";
const BLANK = "about:blank";

interface Refusal {
  status: number;
  code: string;
  message: string;
  kind?: string;
  retryAfterSeconds?: number;
}

/** `problem`: RFC 9457, as the service's `http.error_body: problem`; else the uniform schema. */
export class Bodies {
  constructor(private readonly form: "uniform" | "problem") {}

  unavailable(): Decision {
    const message = "The limit cannot be checked now. Please try again later.";
    return this.refusal({
      status: 503,
      code: "RATE_LIMIT_UNAVAILABLE",
      message,
      kind: TEMPORARY,
      retryAfterSeconds: 1,
    });
  }

  tokenUnavailable(): Decision {
    const message = "The token cannot be checked now. Please try again later.";
    return this.refusal({
      status: 503,
      code: "TOKEN_CHECK_UNAVAILABLE",
      message,
      kind: TEMPORARY,
      retryAfterSeconds: 1,
    });
  }

  tokenMissing(): Decision {
    const refusal = this.refusal({ status: 401, code: "TOKEN_MISSING", message: "A token is required." });
    refusal.headers.push(["www-authenticate", "Bearer"]);
    return refusal;
  }

  tokenInvalid(): Decision {
    const refusal = this.refusal({ status: 401, code: "TOKEN_INVALID", message: "The token is not valid." });
    const challenge = 'Bearer error="invalid_token", error_description="the token is not valid"';
    refusal.headers.push(["www-authenticate", challenge]);
    return refusal;
  }

  notConfigured(): Decision {
    const message = "The request cannot be judged now.";
    return this.refusal({ status: 503, code: "NOT_CONFIGURED", message, kind: TEMPORARY });
  }

  malformed(): Decision {
    return this.refusal({ status: 400, code: "REQUEST_MALFORMED", message: "The request is not well formed." });
  }

  tooLarge(): Decision {
    const message = "The request's headers are too large.";
    return this.refusal({ status: 431, code: "REQUEST_HEADERS_TOO_LARGE", message });
  }

  timeout(): Decision {
    return this.refusal({ status: 408, code: "REQUEST_TIMEOUT", message: "The request did not come in time." });
  }

  origin(): Decision {
    const message = "Connections from this origin are not allowed.";
    return this.refusal({ status: 403, code: "ORIGIN_NOT_ALLOWED", message });
  }

  notFound(): Decision {
    return this.refusal({ status: 404, code: "NOT_FOUND", message: "There is no socket here." });
  }

  limitedHere(retryAfterSeconds: number): Decision {
    const message = "Too many requests. Please try again later.";
    return this.refusal({ status: 429, code: "RATE_LIMIT_EXCEEDED", message, kind: QUOTA, retryAfterSeconds });
  }

  internal(): Decision {
    const message = "Something went wrong. Please try again later.";
    return this.refusal({ status: 500, code: "INTERNAL_SERVER_ERROR", message });
  }

  private refusal({ status, code, message, kind = BLANK, retryAfterSeconds }: Refusal): Decision {
    // Members in the service's order, and no spaces.
    const body =
      this.form === "problem"
        ? { type: kind, title: message, status, code }
        : { status: "error", code, message, details: [] };
    const headers: Headers = retryAfterSeconds === undefined ? [] : [["retry-after", String(retryAfterSeconds)]];
    headers.push(["cache-control", "no-store"]);
    return {
      allowed: false,
      reason: code.toLowerCase(),
      mode: status === 429 ? "local" : "failed_closed",
      status,
      headers,
      contentType: this.form === "problem" ? "application/problem+json" : "application/json",
      body: Buffer.from(JSON.stringify(body)),
      retryAfterSeconds,
      statuses: [],
      reservation: undefined,
      isSecured: false,
    };
  }
}

/** A request that passes though nobody decided about it. */
export function passed(mode: "failed_open" | "local"): Decision {
  return {
    allowed: true,
    reason: "unavailable",
    mode,
    status: 200,
    headers: [],
    contentType: "",
    body: Buffer.alloc(0),
    retryAfterSeconds: undefined,
    statuses: [],
    reservation: undefined,
    isSecured: false,
  };
}
