/**
 * The retry clock: how long a machine may stay out of state 2.
 *
 * It starts when state 2 is left (or at the call), is reset after 10 s back in state 2, and bounds everything, a walk
 * in progress too.
 */

import { elapsed, type Duration, type Instant } from "./time";

/** So long in state 2 before the clock is forgotten. */
const SETTLED: Duration = 10_000;

type Phase =
  /** Out of state 2. */
  | { readonly kind: "out"; readonly since: Instant }
  /** In state 2, after having been out. */
  | { readonly kind: "back"; readonly outSince: Instant; readonly at: Instant };

/** The clock. It derives its deadline; nothing is stored twice. */
export class RetryClock {
  readonly #limit: Duration;
  #phase: Phase;

  /** A clock that starts at a call. */
  constructor(limit: Duration, now: Instant) {
    this.#limit = limit;
    this.#phase = { kind: "out", since: now };
  }

  /** State 2 is left. */
  left(now: Instant): void {
    if (this.#phase.kind === "out") return;
    const settled = elapsed(this.#phase.at, now) >= SETTLED;
    this.#phase = { kind: "out", since: settled ? now : this.#phase.outSince };
  }

  /** State 2 is reached. */
  back(now: Instant): void {
    if (this.#phase.kind === "back") return;
    this.#phase = { kind: "back", outSince: this.#phase.since, at: now };
  }

  /** When to give up; `undefined` in state 2, and where nothing is ever tried again. */
  deadline(): Instant | undefined {
    return this.#phase.kind === "out" && this.retries() ? this.#phase.since + this.#limit : undefined;
  }

  /** Whether it is time to give up. */
  expired(now: Instant): boolean {
    const deadline = this.deadline();
    return deadline !== undefined && now >= deadline;
  }

  /** Whether anything is tried again at all: a limit of zero says no. */
  retries(): boolean {
    return this.#limit > 0;
  }
}
