/**
 * The walk: how a stream survives its node.
 *
 * A client that publishes or plays holds an ordered list of nodes. It dials the first. *Dialling* is one attempt: a POST,
 * then ICE and DTLS; it has two seconds, and an id that was never used before. Answers carry the id; an answer to any
 * attempt but those in the walk's hands changes nothing, which makes every race harmless. If the attempt succeeds, the
 * walk is *attached*: the session is used, and all verdicts on nodes are forgotten. If it fails, the next node is
 * dialled, and so on: every node, in order, each once, before anything is reported as failed (PUB-2).
 *
 * A failure must be the node's to count. When a laptop's lid closes, every node "fails"; blaming them would end in a
 * final failure where patience would do. So an attempt counts against its node only if somebody else answered while it
 * ran: a coordinator, or another node. Since a refused connection takes a millisecond and a coordinator's answer a few
 * more, a verdict may stay *open* until the attempt's two seconds are over, while the walk goes on to the next node; the
 * walk asks for a sign of a coordinator whenever it dials. (A refusal in the node's own words counts at once: who answers
 * is in reach. A device that slept through those two seconds learns nothing: void.) When no node is left to dial and some
 * verdict is open, the walk is *judging*. Then there are four ends of a round:
 *
 * - every node failed, and each failure counts: the network works and the cluster does not. The walk has *ended*, and the
 *   app hears so, once, with the whole trace (PUB-3);
 * - some failure is void: nobody answered, we are probably offline. The walk is *resting*, with backoff, and then tries
 *   those nodes again; all of them, if nobody at all was heard in this round (PUB-4). A sign of anybody ends the rest;
 * - for a play, some node answers "not here now": that is no failure of anybody. Short rests, then who answered so is
 *   asked again (PLAY-3): the publisher may be between two nodes just now. A node's word that the login was ended is taken
 *   alike: it may be here before the coordinator's, which ends the stream with its code (ROOM-7, ROOM-8);
 * - there is no list yet: the walk is *waiting* for one, for 5 s if it may not try again.
 *
 * Whatever it does, the retry clock bounds it: it started when the last session was lost, or at the call. A node that
 * joins the list is tried like the others; one that restarted (a higher incarnation) once more.
 *
 * While attached, the walk watches. Nodes beat every 50 ms when they have nothing else to send, so 300 ms in which
 * nothing was heard means something (GO-2). But what? The node, or the path to it, or just this computer being busy. So
 * nothing is torn down: the walk is *moving*: the next node is dialled beside the session in use, a *hedge*. When it is
 * up, it wins only if the first has been silent for three beats and stays so; else it is hung up, and nothing has
 * happened. A coordinator's word that the node is suspect starts a hedge too, and no more than that. Hedges on such soft
 * evidence are jittered and rationed, because a hiccup that all clients see must not double the load of the cluster; and
 * a timer that fires late proves that we slept, not that the node did. (While it moves the walk looks every 50 ms: so a
 * stop of ours shows, whatever is heard first after it.) A refused connection is hard evidence: the process is gone. That
 * hedge is not rationed. Two seconds of silence, or the transport's end, are a lost session, hedged or not: the app hears
 * of it (1003020, 1004020), and the walk starts again, with the lost node as the last of its list; a hedge under way
 * becomes the first attempt of it.
 *
 * For a publisher, each session that becomes the active one does so under a claim with a higher move. An attempt that
 * stands alone is dialled `active`; a hedge is dialled `standby` and activated when it wins. The walk says which.
 */

import type { Shared } from "../hedge";
import { unreachable, type NodeRef } from "../ids";
import { earliest, type Duration, type Instant } from "../time";
import type { Trace } from "../trial";
import { failed, gone, heard, hedgeIfAllowed, lost, movingDue, movingTimeout, noticeStop, ready, suspect } from "./attach";
import { ATTEMPT_TIME, end, newCore, newRound, next, weigh, type Core } from "./core";
import { due, hedgeDue, LOOK, lostDue, type InUse } from "./session";
import type { Attempts, WalkInput, WalkOutput } from "./words";

export { ATTEMPT_TIME } from "./core";
export type { Attempts, Ending, Standing, WalkInput, WalkOutput } from "./words";

/** For its first list a walk that may not try again waits so long. */
const LIST_TIME: Duration = 5_000;

/** A walk, from the call to its end: it sees many sessions. */
export class Walk {
  readonly #core: Core;

  /** A walk that waits for a list. */
  constructor(retryTime: Duration, now: Instant) {
    this.#core = newCore(retryTime, now);
  }

  /** Something happened. */
  handle(input: WalkInput, shared: Shared, now: Instant): void {
    const walk = this.#core;
    if (walk.state.kind === "ended") return;
    noticeStop(walk, now);
    switch (input.kind) {
      case "nodes":
        walk.roll.set(input.nodes);
        return lookAgain(walk, shared, now);
      case "ready": return ready(walk, input.attempt, shared, now);
      case "heard": return heard(walk, input.attempt, input.at, shared, now);
      case "failed": return failed(walk, input.attempt, input.failure, shared, now);
      case "gone": return gone(walk, input.node, shared, now);
      case "suspect": return suspect(walk, input.node, shared, now);
      case "networkAnswered": return networkAnswered(walk, shared, now);
      case "starved": return walk.clock.left(now);
      case "fed": return walk.clock.back(now);
      case "stop": return end(walk, "stopped", now);
      case "timeout": return timeout(walk, shared, now);
      default: return unreachable(input);
    }
  }

  /** The next thing that it wants. */
  pollOutput(): WalkOutput | undefined {
    return this.#core.outputs.shift();
  }

  /** When to call `handle` with `timeout`. */
  pollTimeout(): Instant | undefined {
    const walk = this.#core;
    if (walk.state.kind === "ended") return undefined;
    return earliest(stateDue(walk), walk.roll.due(), walk.clock.deadline());
  }

  /** What was tried since the walk started. */
  trace(): Trace {
    return this.#core.trace;
  }

  /** The nodes that failed in this walk. */
  failedNodes(): readonly NodeRef[] {
    return this.#core.roll.failed();
  }

  /** The attempts in its hands: the one in use, and the one being dialled. */
  attempts(): Attempts {
    const { state } = this.#core;
    switch (state.kind) {
      case "dialing": return { inUse: undefined, dialing: state.at.attempt };
      case "attached": return { inUse: state.on.session.attempt, dialing: undefined };
      case "moving": return { inUse: state.from.session.attempt, dialing: state.to.attempt };
      case "waiting":
      case "judging":
      case "resting":
      case "ended":
        return { inUse: undefined, dialing: undefined };
      default: return unreachable(state);
    }
  }
}

/** When the state itself has something to do. */
function stateDue(walk: Core): Instant | undefined {
  const { state } = walk;
  switch (state.kind) {
    case "waiting": return walk.clock.retries() ? undefined : walk.roundStarted + LIST_TIME;
    case "dialing": return state.at.started + ATTEMPT_TIME;
    case "attached": return due(state.on);
    case "moving": return Math.min(movingDue(state), state.lookedAt + LOOK);
    case "resting": return state.until;
    case "judging":
    case "ended":
      return undefined;
    default: return unreachable(state);
  }
}

function timeout(walk: Core, shared: Shared, now: Instant): void {
  if (walk.clock.expired(now)) return end(walk, "gaveUp", now);
  weigh(walk, shared, now);
  const { state } = walk;
  switch (state.kind) {
    case "waiting":
      if (!walk.clock.retries() && now >= walk.roundStarted + LIST_TIME) end(walk, "gaveUp", now);
      return;
    case "judging": return next(walk, shared, now);
    case "dialing":
      if (now >= state.at.started + ATTEMPT_TIME) failed(walk, state.at.attempt, { kind: "timedOut" }, shared, now);
      return;
    case "attached": return attachedTimeout(walk, state.on, shared, now);
    case "moving": return movingTimeout(walk, state, shared, now);
    case "resting":
      if (now >= state.until) newRound(walk, shared, now);
      return;
    case "ended": return;
    default: return unreachable(state);
  }
}

function attachedTimeout(walk: Core, on: InUse, shared: Shared, now: Instant): void {
  if (now >= lostDue(on)) lost(walk, { kind: "silent" }, shared, now);
  else if (now >= hedgeDue(on)) hedgeIfAllowed(walk, on, shared, now);
}

function networkAnswered(walk: Core, shared: Shared, now: Instant): void {
  weigh(walk, shared, now);
  const { state } = walk;
  switch (state.kind) {
    case "resting":
      if (state.why === "offline") newRound(walk, shared, now);
      return;
    case "judging": return next(walk, shared, now);
    case "waiting":
    case "dialing":
    case "attached":
    case "moving":
    case "ended":
      return;
    default: return unreachable(state);
  }
}

/** The list has changed: somebody may be there to be dialled. */
function lookAgain(walk: Core, shared: Shared, now: Instant): void {
  const { state } = walk;
  switch (state.kind) {
    case "waiting":
    case "judging":
      return next(walk, shared, now);
    case "resting":
      if (walk.roll.candidate() !== undefined) next(walk, shared, now);
      return;
    case "dialing":
    case "attached":
    case "moving":
    case "ended":
      return;
    default: return unreachable(state);
  }
}
