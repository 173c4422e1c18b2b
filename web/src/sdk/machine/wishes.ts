/**
 * What a client's machines want during one input, in the order in which they want it.
 *
 * Invariant: it is taken whole after each input, so nothing is left in it between two.
 */

import type { Output, RequestId } from "./io";

/** Outputs, requests for plans, and signs of a coordinator. */
export class Wishes {
  #outputs: Output[] = [];
  #lastRequest: RequestId = 0;
  #signs = 0;

  push(output: Output): void {
    this.#outputs.push(output);
  }

  /** The outputs wanted so far; they are not wanted any more. */
  take(): readonly Output[] {
    const outputs = this.#outputs;
    this.#outputs = [];
    return outputs;
  }

  /** An id that was never used. */
  freshRequest(): RequestId {
    this.#lastRequest += 1;
    return this.#lastRequest;
  }

  /** A sign of a coordinator is wanted. */
  wantSign(): void {
    this.#signs += 1;
  }

  /** Whether one was; it is not wanted any more. */
  takeSigns(): boolean {
    const wanted = this.#signs > 0;
    this.#signs = 0;
    return wanted;
  }
}
