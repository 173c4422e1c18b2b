/**
 * Looks at the sessions again and again: for signs of life, for gaps, and for quality.
 *
 * A script does not see SRTCP, so a node's beats are found in the browser's counters. Invariant: what is reported is when
 * something came, never that nothing did: a look that comes late proves nothing.
 */

import type { GapEvent, Quality } from "./api";
import { now, type Timers } from "./clock";
import type { AttemptId } from "./machine/trial";
import type { Digest } from "./media/digest";
import { quality, QUALITY_EVERY_MS } from "./media/quality";
import type { Session } from "./media/session";

/** From one look to the next. A frame's time is read without the statistics, so this is how exact a gap's end is. */
const LOOK_EVERY_MS = 20;

/** From one look at the statistics to the next: Chromium's are as old as this anyway. */
const STATS_EVERY_MS = 60;

/** The session that carries the media of a publisher or player. */
export interface Used {
  readonly session: Session;
  /** The gap that has just ended, if one has. */
  gap(): GapEvent | undefined;
  tellGap(gap: GapEvent): void;
  tellQuality(quality: Quality): void;
}

/** What is looked at. */
export interface Watched {
  sessions(): Iterable<Session>;
  /** For each publisher and player that has one. */
  used(): Iterable<Used>;
}

/** Looks while there are sessions. */
export class Watch {
  #cancel: (() => void) | undefined;
  #statsAt = -Infinity;
  #qualityAt = -Infinity;
  /** What the statistics said at the last quality event. */
  #judged = new Map<AttemptId, { readonly digest: Digest; readonly idle: boolean }>();

  constructor(private readonly timers: Timers, private readonly watched: Watched) {}

  /** There are sessions to look at. */
  start(): void {
    if (this.#cancel === undefined) this.#schedule();
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    this.#judged.clear();
  }

  #schedule(): void {
    this.#cancel = this.timers.after(LOOK_EVERY_MS, () => this.#look());
  }

  #look(): void {
    const sessions = [...this.watched.sessions()];
    if (sessions.length === 0) return this.stop();
    const at = now();
    if (at - this.#statsAt >= STATS_EVERY_MS) {
      this.#statsAt = at;
      // It does not reject.
      for (const session of sessions) void session.look();
    }
    for (const used of this.watched.used()) {
      const gap = used.gap();
      if (gap !== undefined) used.tellGap(gap);
    }
    if (at - this.#qualityAt >= QUALITY_EVERY_MS) {
      this.#qualityAt = at;
      this.#judge();
    }
    // A listener may have closed the client.
    if (this.#cancel !== undefined) this.#schedule();
  }

  #judge(): void {
    const before = this.#judged;
    this.#judged = new Map();
    for (const { session, tellQuality } of this.watched.used()) {
      const { attempt, node } = session.dial;
      const { first, last } = session.digests ?? {};
      if (first === undefined || last === undefined) continue;
      const idle = session.phase === "idle";
      this.#judged.set(attempt, { digest: last, idle });
      const earlier = before.get(attempt) ?? { digest: first, idle };
      // A session that has just come has nothing to compare.
      if (earlier.digest !== last) tellQuality(quality(earlier.digest, last, node.node, earlier.idle || idle));
    }
  }
}
