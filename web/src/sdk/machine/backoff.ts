/**
 * Waiting between tries: exponential, jittered, from a seed.
 *
 * "Full jitter" would let some clients back in at once, all at the same time: half of each wait is fixed, half is drawn.
 */

import type { Duration } from "./time";

const U64 = (1n << 64n) - 1n;

/**
 * The generator: SplitMix64, so that the same seed draws the same in every language.
 *
 * https://prng.di.unimi.it/splitmix64.c
 */
export class Dice {
  #state: bigint;

  constructor(seed: bigint) {
    this.#state = seed & U64;
  }

  /** The next 64 bits. */
  roll(): bigint {
    this.#state = (this.#state + 0x9e37_79b9_7f4a_7c15n) & U64;
    return mix64(this.#state);
  }

  /** Whole milliseconds from `low` to below `high`; `low` if the range is empty. */
  between(low: Duration, high: Duration): Duration {
    const [lowMs, highMs] = [Math.floor(low), Math.floor(high)];
    const span = Math.max(1, highMs - lowMs);
    return lowMs + Number(this.roll() % BigInt(span));
  }
}

/** The finalizer of SplitMix64. */
export function mix64(bits: bigint): bigint {
  const a = ((bits ^ (bits >> 30n)) * 0xbf58_476d_1ce4_e5b9n) & U64;
  const b = ((a ^ (a >> 27n)) * 0x94d0_49bb_1331_11ebn) & U64;
  return b ^ (b >> 31n);
}

/** How waits grow. */
export interface Backoff {
  /** Upper end of the first wait. */
  readonly first: Duration;
  /** Upper end of the longest wait. */
  readonly longest: Duration;
}

/** The wait before try number `round` (from 0): between half of `first * 2^round`, capped, and all of it. */
export function backoffWait({ first, longest }: Backoff, round: number, dice: Dice): Duration {
  const upper = Math.min(first * 2 ** round, longest);
  return dice.between(upper / 2, upper);
}
