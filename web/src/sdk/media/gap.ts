/**
 * Measures the stops in a player's media as a person notices them: from the last frame before one to the first after it.
 * Pure.
 */

import type { GapEvent, Kind, NodeRef } from "../api";
import type { Duration, Instant } from "../machine/time";

/** A stop this long is a gap. */
export const GAP_MS: Duration = 100;

/** Media that comes seldom, such as a shared screen's, stops only after so many of its usual intervals. */
const USUAL_INTERVALS = 2.5;

/** How much of the usual interval the newest one makes. */
const NEWEST_WEIGHT = 0.25;

/** A kind that had stopped this much earlier than the others did not flow: its return is not waited for. */
const FLOWED_MS: Duration = 1_000;

/** How long the first kind that is back waits for the others. */
const OTHERS_MS: Duration = 2_000;

interface Seen {
  readonly at: Instant;
  readonly node: NodeRef;
}

/** A stop whose end some kinds have seen. */
interface Stop {
  readonly before: NodeRef;
  readonly after: NodeRef;
  /** When the first kind was back. */
  readonly backAt: Instant;
  readonly kinds: Map<Kind, Duration>;
  readonly awaited: Set<Kind>;
}

/** Watches the media of one player. */
export class GapMeter {
  readonly #seen = new Map<Kind, Seen>();
  #stop: Stop | undefined;
  #blindSince: Instant | undefined;
  /** From one look at new media, of any kind, to the next. */
  #usual: Duration = 0;

  /**
   * Media of that kind, from that node, came at that time. Tells of the gap that this ended: every kind had stopped for
   * longer than is usual, or, however short, the node is another one.
   */
  media(kind: Kind, node: NodeRef, at: Instant): GapEvent | undefined {
    const last = this.#seen.get(kind);
    if (last !== undefined && at <= last.at) return undefined;
    const newest = this.#newest();
    if (newest !== undefined && this.#ends(newest, node, at)) this.#stop = this.#ended(newest, node, at);
    if (newest !== undefined && at > newest.at) this.#usual += (at - newest.at - this.#usual) * NEWEST_WEIGHT;
    this.#seen.set(kind, { at, node });
    if (this.#stop?.awaited.delete(kind) !== true) return undefined;
    this.#stop.kinds.set(kind, at - (last?.at ?? at));
    return this.#stop.awaited.size === 0 ? this.#whole() : undefined;
  }

  /** Nobody has looked for a while: what came until now may not have been seen, so a stop at the same node is none. */
  blind(now: Instant): void {
    this.#blindSince = now;
  }

  /** Time goes by. Tells of a gap after which some kinds do not come back. */
  tick(now: Instant): GapEvent | undefined {
    return this.#stop !== undefined && now - this.#stop.backAt > OTHERS_MS ? this.#whole() : undefined;
  }

  #newest(): Seen | undefined {
    return [...this.#seen.values()].reduce<Seen | undefined>((a, b) => (a === undefined || b.at > a.at ? b : a), undefined);
  }

  /** Whether media that comes now ends a stop that nothing has ended yet. */
  #ends(newest: Seen, node: NodeRef, at: Instant): boolean {
    if (newest.node !== node) return this.#stop?.after !== node;
    const since = Math.max(newest.at, this.#blindSince ?? newest.at);
    return this.#stop === undefined && at - since > Math.max(GAP_MS, this.#usual * USUAL_INTERVALS);
  }

  #ended(newest: Seen, after: NodeRef, backAt: Instant): Stop {
    const flowed = [...this.#seen].filter(([, { at }]) => newest.at - at < FLOWED_MS);
    return { before: newest.node, after, backAt, kinds: new Map(), awaited: new Set(flowed.map(([kind]) => kind)) };
  }

  #whole(): GapEvent | undefined {
    const stop = this.#stop;
    this.#stop = undefined;
    if (stop === undefined || stop.kinds.size === 0) return undefined;
    return { ms: Math.max(...stop.kinds.values()), kinds: Object.fromEntries(stop.kinds), before: stop.before, after: stop.after };
  }
}
