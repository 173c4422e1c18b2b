/**
 * Time as the machines know it: numbers that come from outside.
 *
 * Both are whole or broken milliseconds; the aliases say which of the two a number is.
 */

/** A point on a monotonic clock, such as `performance.now()`. */
export type Instant = number;

/** From one instant to another. */
export type Duration = number;

/** The first of some instants, if there is one. */
export function earliest(...instants: readonly (Instant | undefined)[]): Instant | undefined {
  return instants.reduce((first, at) => {
    if (first === undefined || at === undefined) return first ?? at;
    return Math.min(first, at);
  }, undefined);
}

/** From `start` to `end`; nothing if it is the wrong way round. */
export function elapsed(start: Instant, end: Instant): Duration {
  return Math.max(0, end - start);
}
