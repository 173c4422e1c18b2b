/**
 * A player: three states over a walk, and what it knows of the stream itself.
 *
 * Invariant: "no such stream" is a coordinator's or the room's word; a node's "not here now" never ends a player
 * (PLAY-3).
 */

import type { PlayerState } from "./event";
import { ErrorCode, unreachable, type NodeRef, type StreamKey } from "./ids";
import type { Answer, Phase, Plan, RequestId } from "./io";
import { Lane, type Context, type LaneOutput } from "./lane";
import type { Duration, Instant } from "./time";
import { isAnswer, type AttemptId, type Failure } from "./trial";
import { ATTEMPT_TIME, type Ending, type WalkInput } from "./walk";

/** How far an attempt has come. */
interface Progress {
  readonly started: Instant;
  transport: "opening" | "up";
  phase: Phase;
}

/**
 * Whether the stream is in the room, as far as is known. It may have left while media was there, or in the middle of a
 * walk: the player ends with the media (PLAY-7), with the next node that answers, or with the walk (PLAY-3).
 */
type Presence = "there" | "left";

/** One played stream. */
export class Player {
  readonly #lane: Lane;
  #state: PlayerState = "PlayRequesting";
  /** Of the attempts in the walk's hands. */
  readonly #progress = new Map<AttemptId, Progress>();
  #presence: Presence = "there";

  constructor(key: StreamKey, retryTime: Duration, cx: Context) {
    this.#lane = new Lane(key, "play", retryTime, cx.now);
    this.#emit(0, cx);
    this.#lane.ask(cx);
  }

  /** Whether it has ended. */
  ended(): boolean {
    return this.#state === "NoPlay";
  }

  pollTimeout(reachable: boolean): Instant | undefined {
    return this.#lane.pollTimeout(reachable);
  }

  timeout(cx: Context): void {
    this.#lane.planner.timeout(cx.shared.dice, cx.now);
    const { inUse, dialing } = this.#lane.attempts();
    const progress = dialing === undefined || dialing === inUse ? undefined : this.#progress.get(dialing);
    // A node with the transport up and neither media nor a word of it has not found the stream.
    if (dialing !== undefined && progress?.transport === "up" && cx.now >= progress.started + ATTEMPT_TIME) {
      this.walk({ kind: "failed", attempt: dialing, failure: { kind: "notHere" } }, cx);
    }
    this.walk({ kind: "timeout" }, cx);
    this.#ask(cx);
  }

  /** The room is connected again, or its coordinator is another one. */
  deskOpened(cx: Context): void {
    if (this.#state === "PlayRequesting") this.#lane.planner.want(cx.now);
    this.#ask(cx);
  }

  awaits(request: RequestId): boolean {
    return this.#lane.planner.awaits(request);
  }

  planned(answer: Answer<Plan>, cx: Context): void {
    const planned = this.#lane.planned(answer, cx);
    switch (planned.kind) {
      case "list":
        this.walk(planned.input, cx);
        break;
      case "none":
        break;
      case "over":
        if (planned.code === ErrorCode.NoSuchStream) {
          this.#lane.planner.failed(cx.shared.dice, cx.now);
          this.streamLeft(cx);
        } else {
          this.end(planned.code, cx);
        }
        break;
      default:
        unreachable(planned);
    }
  }

  listed(cx: Context): void {
    const input = this.#lane.listed(cx);
    if (input !== undefined) this.walk(input, cx);
  }

  /** The attempt's transport is up. */
  up(attempt: AttemptId, cx: Context): void {
    const progress = this.#progress.get(attempt);
    if (progress === undefined) return;
    progress.transport = "up";
    if (progress.phase === "idle") this.walk({ kind: "ready", attempt }, cx);
  }

  /** The attempt's media has come. */
  media(attempt: AttemptId, cx: Context): void {
    const progress = this.#progress.get(attempt);
    if (progress === undefined) return;
    progress.transport = "up";
    progress.phase = "flowing";
    this.walk({ kind: "ready", attempt }, cx);
    this.#fed(attempt, cx);
  }

  phase(attempt: AttemptId, phase: Phase, cx: Context): void {
    const progress = this.#progress.get(attempt);
    if (progress === undefined) return;
    progress.phase = phase;
    const inUse = this.#lane.used()?.attempt === attempt;
    switch (phase) {
      case "connecting":
      case "standby":
        break;
      case "idle":
        if (!inUse) {
          if (progress.transport === "up") this.walk({ kind: "ready", attempt }, cx);
        } else if (this.#presence === "left") {
          this.end(ErrorCode.NoSuchStream, cx);
        } else {
          this.#fed(attempt, cx);
        }
        break;
      case "flowing":
        if (inUse) this.#fed(attempt, cx);
        break;
      case "originLost":
        if (!inUse) break;
        if (this.#presence === "left") this.end(ErrorCode.NoSuchStream, cx);
        else this.#starved(cx);
        break;
      default:
        unreachable(phase);
    }
  }

  /** The stream is not in the room any more. */
  streamLeft(cx: Context): void {
    const hasMedia = this.#state === "Playing" && this.#usedPhase() === "flowing";
    const isWalking = this.#state === "PlayRequesting" && this.#lane.isWalking();
    if (hasMedia || isWalking) this.#presence = "left";
    else this.end(ErrorCode.NoSuchStream, cx);
  }

  /** The stream is in the room. */
  streamCame(): void {
    this.#presence = "there";
  }

  failed(attempt: AttemptId, failure: Failure, cx: Context): void {
    // A player holds no claim: no node's word about one ends it.
    const taken: Failure = failure.kind === "higherClaim" ? { kind: "refused", detail: "fenced" } : failure;
    this.#lane.failing(taken, cx.now);
    this.walk({ kind: "failed", attempt, failure: taken }, cx);
    if (isAnswer(taken) && this.#presence === "left" && this.#state === "PlayRequesting") {
      this.end(ErrorCode.NoSuchStream, cx);
    } else {
      this.#ask(cx);
    }
  }

  /** The app's end, or one with a code. */
  end(code: ErrorCode | undefined, cx: Context): void {
    this.#lane.walk({ kind: "stop" }, cx);
    this.#finish(code, cx);
  }

  /** Lets the walk act, and does what it wants. */
  walk(input: WalkInput, cx: Context): void {
    for (const output of this.#lane.walk(input, cx)) {
      this.#walked(output, cx);
      if (this.ended()) return;
    }
    if (this.#state === "PlayRequesting") this.#lane.ask(cx);
  }

  #walked(output: LaneOutput, cx: Context): void {
    switch (output.kind) {
      case "dial":
        this.#progress.set(output.attempt, { started: cx.now, transport: "opening", phase: "connecting" });
        this.#lane.dial(output.attempt, output.node, undefined, cx);
        break;
      case "use":
        this.#takeUp(output.attempt, output.node, cx);
        break;
      case "hang":
        this.#progress.delete(output.attempt);
        break;
      case "interrupted":
        this.#interrupted(cx);
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
      case "fenced":
        this.#finish(ErrorCode.PlayFailed, cx);
        break;
      case "gaveUp":
        this.#finish(ErrorCode.PlayGaveUp, cx);
        break;
      default:
        unreachable(ending);
    }
  }

  /** Makes the plan's call if it is due; after the end none is. */
  #ask(cx: Context): void {
    if (!this.ended()) this.#lane.ask(cx);
  }

  /** The stream has no origin now: the session stays, and resumes when there is one again (PLAY-6). */
  #starved(cx: Context): void {
    if (this.#state !== "Playing") return;
    this.#state = "PlayRequesting";
    this.walk({ kind: "starved" }, cx);
    this.#emit(ErrorCode.PlayInterrupted, cx);
  }

  #fed(attempt: AttemptId, cx: Context): void {
    if (this.#lane.used()?.attempt !== attempt || this.#state !== "PlayRequesting") return;
    this.#state = "Playing";
    this.walk({ kind: "fed" }, cx);
    this.#emit(0, cx);
  }

  #takeUp(attempt: AttemptId, node: NodeRef, cx: Context): void {
    this.#lane.takeUp(attempt, node, cx);
    this.#state = "Playing";
    this.#emit(0, cx);
  }

  #interrupted(cx: Context): void {
    this.#lane.interrupted(cx.now);
    if (this.#state !== "Playing") return;
    this.#state = "PlayRequesting";
    this.#emit(ErrorCode.PlayInterrupted, cx);
  }

  #finish(code: ErrorCode | undefined, cx: Context): void {
    this.#state = "NoPlay";
    this.#progress.clear();
    this.#lane.finish(cx);
    this.#emit(code ?? 0, cx);
  }

  /** The phase of the session in use. */
  #usedPhase(): Phase | undefined {
    const used = this.#lane.used();
    return used === undefined ? undefined : this.#progress.get(used.attempt)?.phase;
  }

  #emit(code: number, cx: Context): void {
    const failed = this.ended() && code === ErrorCode.PlayFailed;
    const extended = failed ? this.#lane.extendedFinal(cx.shared) : this.#lane.extended(this.#usedPhase() === "idle");
    const [key, state, node] = [this.#lane.key, this.#state, this.#lane.used()?.node];
    cx.wishes.push({ kind: "emit", event: { kind: "player", key, state, code, node, extended } });
  }
}
