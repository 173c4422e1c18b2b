/**
 * Measures the stops in a player's media as a person notices them: from the last frame before one to the first after it.
 * Pure.
 */

import type { GapEvent, Kind, NodeRef } from "../api";
import type { Duration, Instant } from "../machine/time";

/** A stop this long is a gap. */
export const GAP_MS: Duration = 100;

/** The browser's times are not exact: two this close are of the same media. */
const SAME_MS: Duration = 1;

/** Media that comes seldom, such as a shared screen's, stops only after so many of its usual intervals. */
const USUAL_INTERVALS = 2.5;

/** How much of the usual interval the newest one makes. */
const NEWEST_WEIGHT = 0.25;

/** A kind that had stopped this much earlier than the others did not flow: its return is not waited for. */
const FLOWED_MS: Duration = 1_000;

/** How long the first kind that is back waits for the others. */
const OTHERS_MS: Duration = 2_000;

/** A node's word that the publisher has moved may come this much later than the first media from there. */
const WORD_LATE_MS: Duration = 300;

interface Seen {
  readonly at: Instant;
  readonly node: NodeRef;
  /** From one look at new media of this kind to the next. */
  readonly usual: Duration;
}

/** A kind's silence that was longer than is usual for it. */
interface Silence {
  readonly ms: Duration;
  readonly endedAt: Instant;
}

/** Why a stop is one. */
type Cause =
  /** Every kind stopped for long, or the node is another one. */
  | "stopped"
  /** The publisher has moved: one kind may have gone on, out of its buffer. It is a gap if another one stopped for long. */
  | "moved";

/** A stop that some kinds have not come back from. */
interface Stop {
  readonly cause: Cause;
  readonly before: NodeRef;
  readonly after: NodeRef;
  /** When the first kind was back. */
  backAt: Instant | undefined;
  readonly kinds: Map<Kind, Duration>;
  readonly awaited: Set<Kind>;
}

/** A stop must be longer to be noticed, of media that comes so often. */
const least = (usual: Duration): Duration => Math.max(GAP_MS, usual * USUAL_INTERVALS);

/** Watches the media of one player. */
export class GapMeter {
  readonly #seen = new Map<Kind, Seen>();
  /** The last silence of each kind that no gap has told of. */
  readonly #silences = new Map<Kind, Silence>();
  #stop: Stop | undefined;
  #blindSince: Instant | undefined;
  /** The last look before that. */
  #lookedBefore: Instant = -Infinity;
  #lookedAt: Instant = -Infinity;
  /** From one look at new media, of any kind, to the next. */
  #usual: Duration = 0;

  /**
   * Media of that kind, from that node, came at that time. Tells of the gap that this ended: every kind had stopped for
   * longer than is usual, or, however short, the node is another one; or one kind had, and the publisher has moved.
   */
  media(kind: Kind, node: NodeRef, at: Instant): GapEvent | undefined {
    const last = this.#seen.get(kind);
    if (last !== undefined && at < last.at + SAME_MS) return undefined;
    const newest = this.#newest();
    if (newest !== undefined && this.#ends(newest, node, at)) this.#stop = this.#ended("stopped", newest, node, at);
    if (newest !== undefined && at > newest.at) this.#usual += (at - newest.at - this.#usual) * NEWEST_WEIGHT;
    const ms = at - (last?.at ?? at);
    const usual = last?.usual ?? 0;
    if (last !== undefined && this.#certain(last.at, at) > least(usual)) this.#silences.set(kind, { ms, endedAt: at });
    this.#seen.set(kind, { at, node, usual: usual + (ms - usual) * NEWEST_WEIGHT });
    if (this.#stop?.awaited.delete(kind) !== true) return undefined;
    this.#stop.backAt ??= at;
    if (this.#stop.cause === "stopped") this.#stop.kinds.set(kind, ms);
    else this.#addSilence(this.#stop, kind, at);
    return this.#stop.awaited.size === 0 ? this.#whole() : undefined;
  }

  /** The node says that the publisher has moved: its media comes another way. */
  moved(now: Instant): void {
    const newest = this.#newest();
    if (newest === undefined || this.#stop !== undefined) return;
    this.#stop = this.#ended("moved", newest, newest.node, undefined);
    for (const kind of this.#stop.awaited) this.#addSilence(this.#stop, kind, now - WORD_LATE_MS);
  }

  /** Nobody has looked for a while: what came until now may not have been seen, so a stop at the same node is none. */
  blind(now: Instant): void {
    this.#blindSince = now;
    this.#lookedBefore = this.#lookedAt;
  }

  /** Time goes by, and somebody looks. Tells of a gap after which some kinds do not come back. */
  tick(now: Instant): GapEvent | undefined {
    this.#lookedAt = now;
    return this.#stop?.backAt !== undefined && now - this.#stop.backAt > OTHERS_MS ? this.#whole() : undefined;
  }

  /** How long nothing came for certain: what a late look sees may have had others before it, since the look before. */
  #certain(from: Instant, to: Instant): Duration {
    const seenLate = this.#blindSince !== undefined && to <= this.#blindSince;
    return seenLate ? Math.min(to, this.#lookedBefore) - from : to - from;
  }

  /** Counts a kind's silence that ended then or later. */
  #addSilence(stop: Stop, kind: Kind, since: Instant): void {
    const silence = this.#silences.get(kind);
    if (silence !== undefined && silence.endedAt >= since) stop.kinds.set(kind, silence.ms);
  }

  #newest(): Seen | undefined {
    return [...this.#seen.values()].reduce<Seen | undefined>((a, b) => (a === undefined || b.at > a.at ? b : a), undefined);
  }

  /** Whether media that comes now ends a stop that nothing has ended yet. */
  #ends(newest: Seen, node: NodeRef, at: Instant): boolean {
    if (newest.node !== node) return this.#stop?.after !== node;
    const since = Math.max(newest.at, this.#blindSince ?? newest.at);
    return this.#stop === undefined && at - since > least(this.#usual);
  }

  #ended(cause: Cause, newest: Seen, after: NodeRef, backAt: Instant | undefined): Stop {
    const flowed = [...this.#seen].filter(([, { at }]) => newest.at - at < FLOWED_MS);
    return { cause, before: newest.node, after, backAt, kinds: new Map(), awaited: new Set(flowed.map(([kind]) => kind)) };
  }

  #whole(): GapEvent | undefined {
    const stop = this.#stop;
    this.#stop = undefined;
    this.#silences.clear();
    if (stop === undefined || stop.kinds.size === 0) return undefined;
    return { ms: Math.max(...stop.kinds.values()), kinds: Object.fromEntries(stop.kinds), before: stop.before, after: stop.after };
  }
}
