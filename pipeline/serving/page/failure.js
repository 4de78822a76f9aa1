// How a request to the model fails.

/** A request that failed. `kind`: refused, key, large, busy, unavailable, silent (no server), broken (connection lost in mid-text) or other. */
export class Failure extends Error {
  constructor(kind, message, { param = null, wait = null } = {}) {
    super(message);
    this.kind = kind;
    this.param = param;
    this.wait = wait;
  }
}
