/**
 * Measures the stops in a player's media as a person notices them: from the last frame before one to the first after it.
 * Pure.
 */

import type { GapEvent, Kind, NodeRef } from "../api";
import type { Instant } from "../machine/time";

/** A stop this long is a gap. */
export const GAP_MS = 100;

/** A kind that was last seen longer ago than this, before the change of node, did not flow: it is not waited for. */
const FLOWED_MS = 1_000;

/** How long the first kind that came from another node waits for the others. */
const OTHERS_MS = 2_000;

interface Seen {
  at: Instant;
  node: NodeRef;
}

/** A change of node that some kinds have made. */
interface Change {
  readonly before: NodeRef;
  readonly after: NodeRef;
  /** When the first kind made it. */
  readonly since: Instant;
  readonly kinds: Map<Kind, number>;
  readonly awaited: Set<Kind>;
}

/** Watches the media of one player. */
export class GapMeter {
  readonly #seen = new Map<Kind, Seen>();
  #change: Change | undefined;

  /** Media of that kind, from that node, came at that time. Tells of the gap that it ended. */
  media(kind: Kind, node: NodeRef, at: Instant): GapEvent | undefined {
    const last = this.#seen.get(kind);
    if (last !== undefined && at <= last.at) return undefined;
    const newest = Math.max(...[...this.#seen.values()].map((seen) => seen.at));
    const standing = this.#seen.size > 0 && at - newest > GAP_MS;
    this.#seen.set(kind, { at, node });
    if (last !== undefined && last.node !== node) return this.#changed(kind, last, node, at, newest);
    if (this.#change !== undefined || !standing) return undefined;
    // Everything stood still, at the same node.
    return { ms: at - newest, kinds: last === undefined ? {} : { [kind]: at - last.at }, before: node, after: node };
  }

  #changed(kind: Kind, last: Seen, node: NodeRef, at: Instant, newest: Instant): GapEvent | undefined {
    if (this.#change?.after !== node) {
      const flowed = [...this.#seen].filter(([, seen]) => seen.node !== node && newest - seen.at < FLOWED_MS);
      const awaited = new Set(flowed.map(([other]) => other));
      this.#change = { before: last.node, after: node, since: at, kinds: new Map(), awaited };
    }
    this.#change.kinds.set(kind, at - last.at);
    this.#change.awaited.delete(kind);
    return this.#change.awaited.size === 0 ? this.#whole() : undefined;
  }

  /** Time goes by. Tells of a change of node whose other kinds do not come. */
  tick(now: Instant): GapEvent | undefined {
    return this.#change !== undefined && now - this.#change.since > OTHERS_MS ? this.#whole() : undefined;
  }

  #whole(): GapEvent | undefined {
    const change = this.#change;
    this.#change = undefined;
    if (change === undefined) return undefined;
    const { before, after, kinds } = change;
    return { ms: Math.max(...kinds.values()), kinds: Object.fromEntries(kinds), before, after };
  }
}
