/** The walk with a session in use: attaching, losing it, and moving (make before break). */

import type { Shared } from "../hedge";
import { sameNode, unreachable, type NodeRef } from "../ids";
import type { Duration, Instant } from "../time";
import { isAnswer, type AttemptId, type Failure } from "../trial";
import { ATTEMPT_TIME, dial, dropSession, end, next, note, record, type Core, type Moving } from "./core";
import {
  due, heardAt, HEDGE_PAUSE, LATE, LOOK, lostDue, newInUse, paused, restarted, SILENCE_JITTER, STILL_SILENT, trialOf,
  type InUse, type Session,
} from "./session";
import type { Standing } from "./words";

/** A coordinator's word reaches all its clients at once: they hedge within this time. */
const SUSPECT_JITTER: Duration = 200;

/** When something is to be done beside a hedge. */
export function movingDue({ from, to, ready }: Moving): Instant {
  return ready === undefined ? Math.min(lostDue(from), to.started + ATTEMPT_TIME) : from.quietSince + STILL_SILENT;
}

/** The attempt's session can be used. */
export function ready(walk: Core, attempt: AttemptId, shared: Shared, now: Instant): void {
  const { state } = walk;
  switch (state.kind) {
    case "dialing":
      if (state.at.attempt === attempt) attach(walk, state.at, state.standing, shared, now);
      return;
    case "moving":
      if (state.to.attempt !== attempt) return;
      walk.state = { ...state, ready: state.ready ?? now };
      return decide(walk, shared, now);
    case "waiting":
    case "attached":
    case "judging":
    case "resting":
    case "ended":
      return;
    default:
      return unreachable(state);
  }
}

function attach(walk: Core, session: Session, standing: Standing, shared: Shared, now: Instant): void {
  walk.outputs.push({ kind: "use", attempt: session.attempt, node: session.node, standing });
  record(walk, trialOf(session, { kind: "used" }, now));
  walk.roll.forget();
  walk.round = 0;
  walk.clock.back(now);
  const jitter = shared.dice.between(0, SILENCE_JITTER);
  walk.state = { kind: "attached", on: newInUse(session, jitter, now) };
}

/** Something came from the node, at that time. */
export function heard(walk: Core, attempt: AttemptId, at: Instant, shared: Shared, now: Instant): void {
  const { state } = walk;
  switch (state.kind) {
    case "attached":
      if (state.on.session.attempt !== attempt) return;
      walk.state = { ...state, on: heardAt(state.on, at) };
      // It lives: a hedge that found no node leaves no verdicts behind.
      walk.roll.forget();
      return;
    case "moving":
      if (state.from.session.attempt !== attempt) return;
      walk.state = { ...state, from: heardAt(state.from, at) };
      return decide(walk, shared, now);
    case "waiting":
    case "dialing":
    case "judging":
    case "resting":
    case "ended":
      return;
    default:
      return unreachable(state);
  }
}

/** The attempt has failed, or its session is lost. */
export function failed(walk: Core, attempt: AttemptId, failure: Failure, shared: Shared, now: Instant): void {
  const { state } = walk;
  switch (state.kind) {
    case "dialing":
      if (state.at.attempt !== attempt) return;
      walk.state = { kind: "judging" };
      note(walk, state.at, failure, shared, now);
      if (failure.kind === "higherClaim") return end(walk, "fenced", now);
      return next(walk, shared, now);
    case "attached":
      if (state.on.session.attempt === attempt) lost(walk, failure, shared, now);
      return;
    case "moving":
      if (state.from.session.attempt === attempt) return lost(walk, failure, shared, now);
      if (state.to.attempt === attempt) hedgeFailed(walk, state, failure, shared, now);
      return;
    case "waiting":
    case "judging":
    case "resting":
    case "ended":
      return;
    default:
      return unreachable(state);
  }
}

function hedgeFailed(walk: Core, { from, to }: Moving, failure: Failure, shared: Shared, now: Instant): void {
  walk.state = { kind: "attached", on: from };
  note(walk, to, failure, shared, now);
  if (failure.kind === "higherClaim") return end(walk, "fenced", now);
  hedge(walk, from, shared, now);
}

/** The session in use is lost. A hedge under way takes over. */
export function lost(walk: Core, failure: Failure, shared: Shared, now: Instant): void {
  const { state } = walk;
  switch (state.kind) {
    case "attached":
      return leave(walk, state.on, undefined, failure, shared, now);
    case "moving":
      if (state.ready === undefined || failure.kind === "higherClaim") {
        return leave(walk, state.from, state.to, failure, shared, now);
      }
      return win(walk, state, failure, shared, now);
    case "waiting":
    case "dialing":
    case "judging":
    case "resting":
    case "ended":
      return;
    default:
      return unreachable(state);
  }
}

/** Lets the session in use go, with a hedge that is not ready, or none. */
function leave(
  walk: Core, from: InUse, to: Session | undefined, failure: Failure, shared: Shared, now: Instant,
): void {
  const { session } = from;
  const trial = trialOf(session, { kind: "failed", failure }, now);
  if (failure.kind === "higherClaim") {
    record(walk, trial);
    return end(walk, "fenced", now);
  }
  if (!walk.roll.anyTried() && to === undefined) walk.trace.clear();
  walk.outputs.push({ kind: "hang", attempt: session.attempt });
  if (isAnswer(failure)) shared.evidence.node(session.node.id, now);
  record(walk, trial);
  walk.roll.demote(session.node.id);
  walk.clock.left(now);
  walk.roundStarted = now;
  walk.outputs.push({ kind: "interrupted" });
  // The session is hung up: from here on it is in nobody's hands.
  walk.state = to === undefined ? { kind: "judging" } : { kind: "dialing", at: to, standing: "standby" };
  if (!walk.clock.retries() || walk.clock.expired(now)) return end(walk, "gaveUp", now);
  if (to === undefined) next(walk, shared, now);
}

/** The node's process is gone. */
export function gone(walk: Core, node: NodeRef, shared: Shared, now: Instant): void {
  const trying = walk.state.kind === "dialing" ? walk.state.at : walk.state.kind === "moving" ? walk.state.to : undefined;
  if (trying !== undefined && sameNode(trying.node, node)) {
    // The line to it was up for other sessions: this attempt need not wait for its time to run out.
    return failed(walk, trying.attempt, { kind: "gone" }, shared, now);
  }
  if (walk.state.kind !== "attached" || !sameNode(walk.state.on.session.node, node)) return;
  const { on } = walk.state;
  const { hedging } = shared.hedges;
  switch (hedging) {
    case "on":
      if (walk.roll.candidate(node.id) !== undefined) return startHedge(walk, on, shared, now);
      // Its media still comes, and there is no other node: silence will tell.
      if (now < on.quietSince + STILL_SILENT) return;
      return lost(walk, { kind: "gone" }, shared, now);
    case "off":
      return lost(walk, { kind: "gone" }, shared, now);
    default:
      return unreachable(hedging);
  }
}

/** The node may be in trouble. */
export function suspect(walk: Core, node: NodeRef, shared: Shared, now: Instant): void {
  if (walk.state.kind !== "attached") return;
  const { on } = walk.state;
  if (!sameNode(on.session.node, node) || on.suspected !== undefined) return;
  const suspected = now + shared.dice.between(0, SUSPECT_JITTER);
  walk.state = { kind: "attached", on: { ...on, suspected } };
}

/** The session in use has been silent for too long: a hedge, when the client's allowance has one. */
export function hedgeIfAllowed(walk: Core, on: InUse, shared: Shared, now: Instant): void {
  const { node } = on.session;
  const at = shared.hedges.allowedAt(node, now);
  if (at === undefined || at > now) {
    walk.state = { kind: "attached", on: { ...on, hedgeFrom: at ?? now + HEDGE_PAUSE } };
    return;
  }
  if (walk.roll.candidate(node.id) !== undefined) shared.hedges.spend(node, now);
  startHedge(walk, on, shared, now);
}

function startHedge(walk: Core, from: InUse, shared: Shared, now: Instant): void {
  if (!walk.roll.anyTried()) walk.trace.clear();
  walk.roundStarted = now;
  hedge(walk, from, shared, now);
}

/** Dials the next node beside the session in use; with none left, goes on with that session. */
function hedge(walk: Core, from: InUse, shared: Shared, now: Instant): void {
  const node = walk.roll.candidate(from.session.node.id);
  if (node === undefined) {
    walk.state = { kind: "attached", on: paused(from, now) };
    return;
  }
  const to = dial(walk, node, "standby", shared, now);
  walk.state = { kind: "moving", from, to, ready: undefined, lookedAt: now };
}

/**
 * A look that comes too late: we stood still, and what the node sent meanwhile may not have been read, whatever is heard
 * first. Its silence counts from now on. Once a hedge is ready, so much is granted one time only: by the next look what
 * came has been read, and a page whose timers are slowed down has nothing but late ones.
 */
export function noticeStop(walk: Core, now: Instant): void {
  const { state } = walk;
  switch (state.kind) {
    case "attached":
      if (now > due(state.on) + LATE) walk.state = { ...state, on: restarted(state.on, now) };
      return;
    case "moving": {
      const { from, ready } = state;
      const late = now > Math.min(movingDue(state), state.lookedAt + LOOK) + LATE;
      const granted = ready === undefined || from.quietSince <= ready;
      walk.state = { ...state, from: late && granted ? restarted(from, now) : from, lookedAt: now };
      return;
    }
    case "waiting":
    case "dialing":
    case "judging":
    case "resting":
    case "ended":
      return;
    default:
      return unreachable(state);
  }
}

/** Time has passed beside a hedge. */
export function movingTimeout(walk: Core, state: Moving, shared: Shared, now: Instant): void {
  if (state.ready !== undefined) return decide(walk, shared, now);
  const { from, to } = state;
  if (now >= lostDue(from)) return lost(walk, { kind: "silent" }, shared, now);
  if (now >= to.started + ATTEMPT_TIME) failed(walk, to.attempt, { kind: "timedOut" }, shared, now);
}

/** The hedge is ready: does it win? */
function decide(walk: Core, shared: Shared, now: Instant): void {
  const { state } = walk;
  if (state.kind !== "moving" || state.ready === undefined) return;
  const { from, to } = state;
  if (from.heardAt > state.ready) {
    dropSession(walk, to, now);
    walk.roll.forget();
    walk.state = { kind: "attached", on: paused(from, now) };
  } else if (now >= from.quietSince + STILL_SILENT) {
    win(walk, state, { kind: "silent" }, shared, now);
  }
}

/** The hedge is used, and only then the first session let go. */
function win(walk: Core, { from, to }: Moving, failure: Failure, shared: Shared, now: Instant): void {
  record(walk, trialOf(from.session, { kind: "failed", failure }, now));
  walk.roll.demote(from.session.node.id);
  attach(walk, to, "standby", shared, now);
  walk.outputs.push({ kind: "hang", attempt: from.session.attempt });
}
