/** A session in the hands of a walk: being dialled, or in use with its clock of silence. */

import type { Node, NodeRef } from "../ids";
import { elapsed, type Duration, type Instant } from "../time";
import type { AttemptId, Outcome, Trial } from "../trial";

/** Silence of a node that beats every 50 ms, before a hedge (GO-2). */
const SILENCE: Duration = 300;

/** Jitter on it, so that a node's death does not send all its clients at once. */
export const SILENCE_JITTER: Duration = 40;

/** Three beats: a session this long silent is still silent when its hedge is ready. */
export const STILL_SILENT: Duration = 150;

/** Silence that is a lost session, hedged or not. */
const LOST: Duration = 2_000;

/** A timer this late is no evidence of silence: what was received may not have been looked at. */
export const LATE: Duration = 100;

/** From one look at a session in use to the next while a hedge is under way, so that a stop of ours shows. */
export const LOOK: Duration = 50;

/** From one look at a session that may not be hedged to the next. */
export const HEDGE_PAUSE: Duration = 10_000;

/** A session being set up. */
export interface Session {
  readonly attempt: AttemptId;
  readonly node: NodeRef;
  readonly started: Instant;
}

/** A session that is dialled now. */
export function newSession(attempt: AttemptId, node: Node, now: Instant): Session {
  return { attempt, node: node.node, started: now };
}

/** How it ended, for the trace. */
export function trialOf(session: Session, outcome: Outcome, now: Instant): Trial {
  return { ...session, outcome, took: elapsed(session.started, now) };
}

/** A session in use. */
export interface InUse {
  readonly session: Session;
  /** When the node was last heard. */
  readonly heardAt: Instant;
  /** From when its silence counts: when it was heard, or when a late timer had the clock start again. */
  readonly quietSince: Instant;
  /** After how much silence to hedge. */
  readonly patience: Duration;
  /** When to hedge on a word of suspicion. */
  readonly suspected: Instant | undefined;
  /** No hedge before. */
  readonly hedgeFrom: Instant;
}

/** A session that is used from now on. */
export function newInUse(session: Session, jitter: Duration, now: Instant): InUse {
  return {
    session,
    heardAt: now,
    quietSince: now,
    patience: SILENCE + jitter,
    suspected: undefined,
    hedgeFrom: now,
  };
}

/** Something came from its node. */
export function heardAt(on: InUse, at: Instant): InUse {
  return { ...on, heardAt: Math.max(on.heardAt, at), quietSince: Math.max(on.quietSince, at) };
}

/** A timer was late: silence counts from now on. A word of suspicion is as good as before. */
export function restarted(on: InUse, now: Instant): InUse {
  const suspected = on.suspected === undefined ? undefined : Math.max(on.suspected, now);
  return { ...on, quietSince: now, suspected };
}

/** It stays in use, whatever was held against it: no other hedge for a while. */
export function paused(on: InUse, now: Instant): InUse {
  return { ...on, suspected: undefined, hedgeFrom: now + HEDGE_PAUSE };
}

export function hedgeDue(on: InUse): Instant {
  const silent = on.quietSince + on.patience;
  const due = on.suspected === undefined ? silent : Math.min(silent, on.suspected);
  return Math.max(due, on.hedgeFrom);
}

export function lostDue(on: InUse): Instant {
  return on.quietSince + LOST;
}

/** The next of both. */
export function due(on: InUse): Instant {
  return Math.min(hedgeDue(on), lostDue(on));
}
