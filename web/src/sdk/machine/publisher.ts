/**
 * A publisher: three states over a walk, and the claim under which its sessions become active.
 *
 * Invariant: no move of an epoch is given twice, and it only rises: the newest session always wins at the nodes (PUB-11).
 */

import type { PublisherState } from "./event";
import {
  compareClaim, ErrorCode, firstClaim, nextMove, sameNode, unreachable, type Claim, type Node, type NodeRef,
  type StreamKey,
} from "./ids";
import type { Answer, HeldClaim, Phase, Plan, RequestId } from "./io";
import { Lane, type Context, type LaneOutput } from "./lane";
import { earliest, type Duration, type Instant } from "./time";
import type { AttemptId, Failure } from "./trial";
import type { Ending, Standing, WalkInput } from "./walk";

/** A node that does not confirm an activation by then has lost it. */
const ACTIVATION_TIME: Duration = 2_000;

/** An activation that was sent and not confirmed yet. */
interface Activation {
  readonly attempt: AttemptId;
  readonly node: NodeRef;
  readonly claim: Claim;
  readonly until: Instant;
}

/** One published stream. */
export class Publisher {
  readonly #lane: Lane;
  #state: PublisherState = "PublishRequesting";
  #claim: Claim | undefined;
  #activation: Activation | undefined;
  #idle = false;

  constructor(key: StreamKey, retryTime: Duration, cx: Context) {
    this.#lane = new Lane(key, "publish", retryTime, cx.now);
    this.#emit(0, cx);
    this.#lane.ask(cx);
  }

  /** Whether it has ended. */
  ended(): boolean {
    return this.#state === "NoPublish";
  }

  /** What a coordinator that lost its store is told. */
  held(): HeldClaim | undefined {
    const [claim, nodeToken] = [this.#claim, this.#lane.planner.token()];
    if (claim === undefined || nodeToken === undefined) return undefined;
    return { stream: this.#lane.key.stream, claim, nodeToken };
  }

  /** The epoch that is to be given up at its end. */
  epoch(): bigint | undefined {
    return this.#claim?.epoch;
  }

  pollTimeout(reachable: boolean): Instant | undefined {
    return earliest(this.#lane.pollTimeout(reachable), this.#activation?.until);
  }

  timeout(cx: Context): void {
    this.#lane.planner.timeout(cx.shared.dice, cx.now);
    const activation = this.#activation;
    if (activation !== undefined && cx.now >= activation.until) {
      this.#activation = undefined;
      this.walk({ kind: "failed", attempt: activation.attempt, failure: { kind: "timedOut" } }, cx);
    }
    this.walk({ kind: "timeout" }, cx);
    this.#ask(cx);
  }

  /** The room is connected again, or its coordinator is another one. */
  deskOpened(cx: Context): void {
    if (this.#state === "PublishRequesting") this.#lane.planner.want(cx.now);
    this.#ask(cx);
  }

  awaits(request: RequestId): boolean {
    return this.#lane.planner.awaits(request);
  }

  /** The plan that is under way. */
  askedFor(): RequestId | undefined {
    return this.#lane.planner.askedFor();
  }

  planned(answer: Answer<Plan>, cx: Context): void {
    const planned = this.#lane.planned(answer, cx);
    switch (planned.kind) {
      case "over":
        this.#refused(planned.code, cx);
        break;
      case "list":
      case "none":
        if (answer.kind === "ok") this.#takeClaim(answer.value.claim, cx);
        if (planned.kind === "list") this.walk(planned.input, cx);
        break;
      default:
        unreachable(planned);
    }
  }

  listed(cx: Context): void {
    const input = this.#lane.listed(cx);
    if (input !== undefined) this.walk(input, cx);
  }

  phase(attempt: AttemptId, phase: Phase, claim: Claim | undefined): void {
    if (!isActive(phase)) return;
    const activation = this.#activation;
    if (activation?.attempt === attempt && (claim === undefined || compareClaim(claim, activation.claim) >= 0)) {
      this.#activation = undefined;
    }
    if (this.#lane.used()?.attempt === attempt) this.#idle = phase === "idle";
  }

  /** The event connection to the node is up: an activation that was lost with the one before is sent again. */
  eventsUp(node: NodeRef, cx: Context): void {
    const activation = this.#activation;
    if (activation !== undefined && sameNode(activation.node, node)) {
      cx.wishes.push({ kind: "activate", attempt: activation.attempt, claim: activation.claim });
    }
  }

  failed(attempt: AttemptId, failure: Failure, cx: Context): void {
    const { inUse, dialing } = this.#lane.attempts();
    if (inUse !== attempt && dialing !== attempt) return;
    this.#lane.failing(failure, cx.now);
    this.walk({ kind: "failed", attempt, failure }, cx);
    this.#ask(cx);
  }

  /** The app's end, or one with a code. */
  end(code: ErrorCode | undefined, cx: Context): void {
    this.#lane.walk({ kind: "stop" }, cx);
    this.#finish(code, cx);
  }

  /** Lets the walk act, and does what it wants. */
  walk(input: WalkInput, cx: Context): void {
    for (const output of this.#lane.walk(input, cx)) this.#walked(output, cx);
    if (this.#state === "PublishRequesting") this.#lane.ask(cx);
  }

  #walked(output: LaneOutput, cx: Context): void {
    switch (output.kind) {
      case "dial":
        this.#dial(output.attempt, output.node, output.standing, cx);
        break;
      case "use":
        this.#takeUp(output.attempt, output.node, output.standing, cx);
        break;
      case "hang":
        if (this.#activation?.attempt === output.attempt) this.#activation = undefined;
        break;
      case "interrupted":
        this.#lane.interrupted(cx.now);
        this.#state = "PublishRequesting";
        this.#emit(ErrorCode.PublishInterrupted, cx);
        break;
      case "ended":
        this.#walkEnded(output.ending, cx);
        break;
      default:
        unreachable(output);
    }
  }

  #walkEnded(ending: Ending, cx: Context): void {
    switch (ending) {
      case "stopped":
        break;
      case "allFailed":
        this.#finish(ErrorCode.PublishFailed, cx);
        break;
      case "gaveUp":
        this.#finish(ErrorCode.PublishGaveUp, cx);
        break;
      case "fenced":
        this.#claim = undefined;
        this.#finish(ErrorCode.StreamTaken, cx);
        break;
      default:
        unreachable(ending);
    }
  }

  /** Makes the plan's call if it is due; after the end none is. */
  #ask(cx: Context): void {
    if (!this.ended()) this.#lane.ask(cx);
  }

  #takeClaim(claim: Claim | undefined, cx: Context): void {
    const before = this.#claim;
    if (claim === undefined || (before !== undefined && compareClaim(before, claim) >= 0)) return;
    this.#claim = claim;
    const used = this.#lane.used();
    if (before !== undefined && claim.epoch > before.epoch && used !== undefined) {
      // The session in use holds a token of an epoch that is over.
      const failure: Failure = { kind: "closed", detail: "its claim is over" };
      this.walk({ kind: "failed", attempt: used.attempt, failure }, cx);
    }
  }

  #refused(code: ErrorCode, cx: Context): void {
    // Somebody else's claim is not ours to give up.
    if (code === ErrorCode.StreamTaken) this.#claim = undefined;
    this.end(code, cx);
  }

  #nextClaim(): Claim {
    this.#claim = nextMove(this.#claim ?? firstClaim(0n));
    return this.#claim;
  }

  #dial(attempt: AttemptId, node: Node, standing: Standing, cx: Context): void {
    this.#lane.dial(attempt, node, standing === "active" ? this.#nextClaim().moved : undefined, cx);
  }

  #takeUp(attempt: AttemptId, node: NodeRef, standing: Standing, cx: Context): void {
    if (standing === "standby") {
      const claim = this.#nextClaim();
      this.#activation = { attempt, node, claim, until: cx.now + ACTIVATION_TIME };
      cx.wishes.push({ kind: "activate", attempt, claim });
    }
    this.#lane.takeUp(attempt, node, cx);
    this.#state = "Publishing";
    this.#idle = false;
    this.#emit(0, cx);
  }

  #finish(code: ErrorCode | undefined, cx: Context): void {
    this.#state = "NoPublish";
    this.#activation = undefined;
    this.#lane.finish(cx);
    this.#emit(code ?? 0, cx);
  }

  #emit(code: number, cx: Context): void {
    const failed = this.ended() && code === ErrorCode.PublishFailed;
    const extended = failed ? this.#lane.extendedFinal(cx.shared) : this.#lane.extended(this.#idle);
    const [key, state, node] = [this.#lane.key, this.#state, this.#lane.used()?.node];
    cx.wishes.push({ kind: "emit", event: { kind: "publisher", key, state, code, node, extended } });
  }
}

/** Whether a session of this phase is the active one at its node. */
function isActive(phase: Phase): boolean {
  switch (phase) {
    case "idle":
    case "flowing":
      return true;
    case "connecting":
    case "originLost":
    case "standby":
      return false;
  }
}
