/**
 * Where a walk stands, and how it goes on with no session in hand: the next node, a rest, or the end.
 *
 * Invariant: whatever attempt is not in the state's hands has been hung up.
 */

import { backoffWait, type Backoff } from "../backoff";
import type { Shared } from "../hedge";
import { unreachable, type Node } from "../ids";
import { RetryClock } from "../retry";
import type { Duration, Instant } from "../time";
import { isAnswer, Trace, type Failure, type Trial } from "../trial";
import { Roll, type Verdict } from "./roll";
import { newSession, trialOf, type InUse, type Session } from "./session";
import type { Ending, Standing, WalkOutput } from "./words";

/** What an attempt has (PUB-2). */
export const ATTEMPT_TIME: Duration = 2_000;

/** Between rounds in which nobody answered. */
const OFFLINE: Backoff = { first: 200, longest: 5_000 };

/** Between rounds in which some node answered "not here now". */
const NOT_HERE: Backoff = { first: 50, longest: 1_000 };

/** Where a walk stands. */
export type State =
  /** For a list of nodes. */
  | { readonly kind: "waiting" }
  /** One attempt, and no session in use. */
  | { readonly kind: "dialing"; readonly at: Session; readonly standing: Standing }
  /** One session, in use. */
  | { readonly kind: "attached"; readonly on: InUse }
  /** Make before break: the session in use, and a hedge. */
  | Moving
  /** No node is left to dial; some verdicts are open. */
  | { readonly kind: "judging" }
  /** Until the next round. */
  | { readonly kind: "resting"; readonly until: Instant; readonly why: "offline" | "notHere" }
  /** For good. */
  | { readonly kind: "ended"; readonly ending: Ending };

export interface Moving {
  readonly kind: "moving";
  readonly from: InUse;
  readonly to: Session;
  /** Since when the hedge can be used. */
  readonly ready: Instant | undefined;
  /** When the walk last looked: later looks show a stop of ours. */
  readonly lookedAt: Instant;
}

/** What a walk consists of. */
export interface Core {
  state: State;
  readonly roll: Roll;
  readonly clock: RetryClock;
  readonly trace: Trace;
  round: number;
  roundStarted: Instant;
  readonly outputs: WalkOutput[];
}

/** Of a walk that waits for a list. */
export function newCore(retryTime: Duration, now: Instant): Core {
  return {
    state: { kind: "waiting" },
    roll: new Roll(),
    clock: new RetryClock(retryTime, now),
    trace: new Trace(),
    round: 0,
    roundStarted: now,
    outputs: [],
  };
}

/** Goes on with no session in hand: the next node, or what the verdicts amount to. */
export function next(walk: Core, shared: Shared, now: Instant): void {
  const node = walk.roll.candidate();
  if (node !== undefined) {
    const at = dial(walk, node, "active", shared, now);
    walk.outputs.push({ kind: "ask" });
    walk.state = { kind: "dialing", at, standing: "active" };
    return;
  }
  const sum = walk.roll.sum();
  switch (sum) {
    case "noList":
      walk.state = { kind: "waiting" };
      return;
    case "open":
      walk.outputs.push({ kind: "ask" });
      walk.state = { kind: "judging" };
      return;
    case "void": return rest(walk, "offline", OFFLINE, shared, now);
    case "notHere": return rest(walk, "notHere", NOT_HERE, shared, now);
    case "allFailed": return end(walk, "allFailed", now);
    default: return unreachable(sum);
  }
}

function rest(walk: Core, why: "offline" | "notHere", backoff: Backoff, shared: Shared, now: Instant): void {
  if (!walk.clock.retries()) return end(walk, "gaveUp", now);
  const until = now + backoffWait(backoff, walk.round, shared.dice);
  walk.state = { kind: "resting", until, why };
}

/** The rest is over. */
export function newRound(walk: Core, shared: Shared, now: Instant): void {
  if (shared.evidence.anySince(walk.roundStarted)) walk.roll.nextRound();
  else walk.roll.forget();
  walk.round += 1;
  walk.roundStarted = now;
  next(walk, shared, now);
}

export function dial(walk: Core, node: Node, standing: Standing, shared: Shared, now: Instant): Session {
  const attempt = shared.freshAttempt();
  walk.outputs.push({ kind: "dial", attempt, node, standing });
  return newSession(attempt, node, now);
}

/** An attempt has ended without a session: takes note of it. */
export function note(walk: Core, at: Session, failure: Failure, shared: Shared, now: Instant): void {
  walk.outputs.push({ kind: "hang", attempt: at.attempt });
  if (isAnswer(failure)) shared.evidence.node(at.node.id, now);
  walk.roll.tried(at.node, verdictOn(at, failure));
  record(walk, trialOf(at, { kind: "failed", failure }, now));
  weigh(walk, shared, now);
}

function verdictOn(at: Session, failure: Failure): Verdict {
  if (failure.kind === "notHere" || failure.kind === "loginEnded") return { kind: "notHere" };
  if (isAnswer(failure)) return { kind: "failed" };
  return { kind: "open", attempt: at.attempt, since: at.started, until: at.started + ATTEMPT_TIME };
}

/** Closes the verdicts that can be closed. */
export function weigh(walk: Core, shared: Shared, now: Instant): void {
  for (const attempt of walk.roll.weigh(shared.evidence, now)) walk.trace.void(attempt);
}

export function record(walk: Core, trial: Trial): void {
  walk.trace.push(trial);
  walk.outputs.push({ kind: "tried", trial });
}

/** Lets everything go, for good. */
export function end(walk: Core, ending: Ending, now: Instant): void {
  const { state } = walk;
  walk.state = { kind: "ended", ending };
  switch (state.kind) {
    case "dialing":
      dropSession(walk, state.at, now);
      break;
    case "attached":
      walk.outputs.push({ kind: "hang", attempt: state.on.session.attempt });
      break;
    case "moving":
      walk.outputs.push({ kind: "hang", attempt: state.from.session.attempt });
      dropSession(walk, state.to, now);
      break;
    case "waiting":
    case "judging":
    case "resting":
    case "ended":
      break;
    default:
      unreachable(state);
  }
  walk.outputs.push({ kind: "ended", ending });
}

/** An attempt is of no use any more. */
export function dropSession(walk: Core, at: Session, now: Instant): void {
  walk.outputs.push({ kind: "hang", attempt: at.attempt });
  record(walk, trialOf(at, { kind: "failed", failure: { kind: "unneeded" } }, now));
}
