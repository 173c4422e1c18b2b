/**
 * What a publisher and a player have in common: a walk, its plan, and what becomes of the walk's wishes.
 *
 * Invariant: a lane dials only with a node token in hand; without one its walk is given no list.
 */

import type { StreamExtended } from "./event";
import type { Shared } from "./hedge";
import { ErrorCode, unreachable, type Action, type Node, type NodeRef, type StreamKey } from "./ids";
import type { Answer, Plan, SessionProof } from "./io";
import { Planner } from "./plan";
import { earliest, type Duration, type Instant } from "./time";
import type { AttemptId, Failure, Trial } from "./trial";
import { Walk, type Attempts, type WalkInput, type WalkOutput } from "./walk";
import type { Wishes } from "./wishes";

/** Trials kept for a report. */
const MAX_UNREPORTED = 128;

/** A coordinator to be asked, and in whose name. */
export interface Desk {
  readonly url: string;
  readonly session: SessionProof;
}

/** What a machine works with during one input. */
export interface Context {
  readonly shared: Shared;
  readonly wishes: Wishes;
  /** Where the room's calls go; `undefined` while it is not connected. */
  readonly desk: Desk | undefined;
  /** Every node known. */
  readonly nodes: readonly Node[];
  readonly now: Instant;
}

/** The session in use. */
export interface Used {
  readonly attempt: AttemptId;
  readonly node: NodeRef;
}

/** What is left to a publisher or a player of its walk's wishes. */
export type LaneOutput = Exclude<WalkOutput, { kind: "tried" | "ask" }>;

/** What a plan's answer comes to: what the walk is to hear, nothing now, or the final word. */
export type Planned =
  | { readonly kind: "list"; readonly input: WalkInput }
  | { readonly kind: "none" }
  | { readonly kind: "over"; readonly code: ErrorCode };

/** A stream's walk and plan. */
export class Lane {
  readonly key: StreamKey;
  readonly action: Action;
  readonly planner: Planner;
  readonly #walk: Walk;
  #used: Used | undefined;
  /** Trials that no coordinator was told of yet, newest last. */
  #unreported: Trial[] = [];

  constructor(key: StreamKey, action: Action, retryTime: Duration, now: Instant) {
    this.key = key;
    this.action = action;
    this.planner = new Planner(now);
    this.#walk = new Walk(retryTime, now);
  }

  /** The session in use. */
  used(): Used | undefined {
    return this.#used;
  }

  /** The attempts in the walk's hands. */
  attempts(): Attempts {
    return this.#walk.attempts();
  }

  /** Whether some node has failed in this walk. */
  isWalking(): boolean {
    return this.#walk.failedNodes().length > 0;
  }

  /** Lets the walk act, then does what concerns both kinds; the rest is the caller's. */
  walk(input: WalkInput, cx: Context): readonly LaneOutput[] {
    this.#walk.handle(input, cx.shared, cx.now);
    const rest: LaneOutput[] = [];
    for (let output = this.#walk.pollOutput(); output !== undefined; output = this.#walk.pollOutput()) {
      switch (output.kind) {
        case "tried":
          this.#tried(output.trial, cx);
          break;
        case "hang":
          cx.wishes.push({ kind: "hang", attempt: output.attempt });
          rest.push(output);
          break;
        case "ask":
          if (this.#used === undefined) this.planner.wantAgain(cx.shared.dice, cx.now);
          cx.wishes.wantSign();
          break;
        case "dial":
        case "use":
        case "interrupted":
        case "ended":
          rest.push(output);
          break;
        default:
          unreachable(output);
      }
    }
    return rest;
  }

  /** Dials for the walk. */
  dial(attempt: AttemptId, node: Node, moved: number | undefined, cx: Context): void {
    const nodeToken = this.planner.token() ?? "";
    cx.wishes.push({ kind: "dial", attempt, key: this.key, action: this.action, node, nodeToken, moved });
  }

  /** The session is used from now on. */
  takeUp(attempt: AttemptId, node: NodeRef, cx: Context): void {
    this.#used = { attempt, node };
    this.planner.content();
    cx.wishes.push({ kind: "use", attempt, key: this.key, action: this.action });
    this.#report(cx);
  }

  /** The session in use is lost. */
  interrupted(now: Instant): void {
    this.#used = undefined;
    this.planner.want(now);
  }

  /** Nothing follows but the report. */
  finish(cx: Context): void {
    this.#used = undefined;
    this.#report(cx);
  }

  /** The list of all nodes has changed: gives what the walk is to hear. */
  listed(cx: Context): WalkInput | undefined {
    this.planner.listed(cx.nodes, this.key);
    return this.#list();
  }

  /** A plan was answered. */
  planned(answer: Answer<Plan>, cx: Context): Planned {
    if (answer.kind === "ok") {
      this.planner.planned(answer.value, cx.nodes, this.key, cx.now);
      const input = this.#list();
      return input === undefined ? { kind: "none" } : { kind: "list", input };
    }
    const { failure } = answer;
    if (failure.kind === "refused" && ends(this.action, failure.code)) return { kind: "over", code: failure.code };
    this.planner.failed(cx.shared.dice, cx.now);
    return { kind: "none" };
  }

  /** Makes the plan's call if it is due and can be made. */
  ask(cx: Context): void {
    if (cx.desk === undefined || !this.planner.isDue(cx.now)) return;
    const { url, session } = cx.desk;
    const request = cx.wishes.freshRequest();
    this.planner.asked(request, cx.now);
    const [action, stream, failed] = [this.action, this.key.stream, this.#walk.failedNodes()];
    cx.wishes.push({ kind: "plan", request, url, action, session, stream, failed });
  }

  pollTimeout(reachable: boolean): Instant | undefined {
    return earliest(this.#walk.pollTimeout(), this.planner.pollTimeout(reachable));
  }

  /** An attempt is failing. Where the node refused the token, a fresh one may be taken. */
  failing(failure: Failure, now: Instant): void {
    if (failure.kind === "tokenRefused" || failure.kind === "loginEnded") this.planner.want(now);
  }

  /** Extended data of a state. */
  extended(idle: boolean): StreamExtended {
    const trace = this.#walk.trace().entries();
    const used = this.#used;
    return used === undefined ? { idle, trace } : { attempt: used.attempt, node: used.node.id, idle, trace };
  }

  /** The same, of a final failure after which another try may be made: by the app, after 3 to 5 s (PUB-3). */
  extendedFinal(shared: Shared): StreamExtended {
    return { trace: this.#walk.trace().entries(), retry_after_ms: shared.dice.between(3_000, 5_000) };
  }

  #tried(trial: Trial, cx: Context): void {
    const { node, outcome, took } = trial;
    cx.wishes.push({ kind: "emit", event: { kind: "attempt", key: this.key, action: this.action, node, outcome, took } });
    if (this.#unreported.length === MAX_UNREPORTED) this.#unreported.shift();
    this.#unreported.push(trial);
  }

  /** Tells a coordinator what was tried. */
  #report(cx: Context): void {
    if (cx.desk === undefined || this.#unreported.length === 0) return;
    const { url, session } = cx.desk;
    cx.wishes.push({ kind: "report", url, session, stream: this.key.stream, trials: this.#unreported });
    this.#unreported = [];
  }

  /** The list for the walk, once there is a token to dial with. */
  #list(): WalkInput | undefined {
    return this.planner.token() === undefined ? undefined : { kind: "nodes", nodes: this.planner.order() };
  }
}

/** Whether the code is a final word for a plan (PUB-5, PLAY-5). */
function ends(action: Action, code: ErrorCode): boolean {
  if (code === ErrorCode.TokenRefused) return true;
  switch (action) {
    case "publish":
      return code === ErrorCode.StreamTaken || code === ErrorCode.PublishForbidden;
    case "play":
      return code === ErrorCode.NoSuchStream || code === ErrorCode.PlayForbidden;
  }
}
