/**
 * Plans: asking a coordinator for the order of the nodes and for a node token, and holding both.
 *
 * Invariant: at most one call is under way per stream, and what is held is never given up for a failed call: with no
 * coordinator in reach the stream walks on what it holds (GO-1).
 */

import { backoffWait, type Backoff, type Dice } from "./backoff";
import { compareHealth, unreachable, type Node, type StreamKey } from "./ids";
import type { Plan, RequestId } from "./io";
import { meetingOrder } from "./meeting";
import type { Duration, Instant } from "./time";

/** A call that has no answer by then has none. */
const CALL_TIME: Duration = 3_000;

/** Between calls that failed. */
const FAILED: Backoff = { first: 200, longest: 5_000 };

/** While a walk goes on its plan is asked for again, for the list may have changed and the stream may have ended. */
const WALKING: Backoff = { first: 2_000, longest: 2_000 };

type Call =
  /** Nothing is wanted. */
  | { readonly kind: "none" }
  /** Wanted from then on, when a coordinator is there to be asked. */
  | { readonly kind: "due"; readonly at: Instant }
  /** Under way. */
  | { readonly kind: "asked"; readonly request: RequestId; readonly until: Instant };

interface Token {
  readonly text: string;
  readonly renewAt: Instant;
}

/** A stream's plan. */
export class Planner {
  #call: Call;
  #token: Token | undefined;
  #order: readonly Node[] = [];
  #failures = 0;

  constructor(now: Instant) {
    this.#call = { kind: "due", at: now };
  }

  /** A plan is wanted now. */
  want(now: Instant): void {
    this.#failures = 0;
    if (this.#call.kind !== "asked") this.#call = { kind: "due", at: now };
  }

  /** While the walk goes on, a plan is wanted again after a while. */
  wantAgain(dice: Dice, now: Instant): void {
    if (this.#call.kind === "none") this.#call = { kind: "due", at: now + backoffWait(WALKING, 0, dice) };
  }

  /** Nothing more is wanted than what is held. */
  content(): void {
    if (this.#call.kind === "due" && this.#token !== undefined) this.#call = { kind: "none" };
  }

  /** The token, if one is held. */
  token(): string | undefined {
    return this.#token?.text;
  }

  /** The nodes, in order. */
  order(): readonly Node[] {
    return this.#order;
  }

  /** Whether a call is to be made now. */
  isDue(now: Instant): boolean {
    return this.#call.kind === "due" && now >= this.#call.at;
  }

  /** The call is made. */
  asked(request: RequestId, now: Instant): void {
    this.#call = { kind: "asked", request, until: now + CALL_TIME };
  }

  /** Whether this request is the one under way. */
  awaits(request: RequestId): boolean {
    return this.askedFor() === request;
  }

  /** The call that is under way. */
  askedFor(): RequestId | undefined {
    return this.#call.kind === "asked" ? this.#call.request : undefined;
  }

  /** The call under way was answered. `listed` are all nodes known. */
  planned(plan: Plan, listed: readonly Node[], key: StreamKey, now: Instant): void {
    this.#call = { kind: "none" };
    this.#failures = 0;
    this.#token = { text: plan.nodeToken, renewAt: now + plan.tokenValid / 2 };
    this.#order = [...plan.nodes, ...missing(plan.nodes, listed, key)];
  }

  /** The call under way failed, whatever the failure: it is made again after a while. */
  failed(dice: Dice, now: Instant): void {
    this.#call = { kind: "due", at: now + backoffWait(FAILED, this.#failures, dice) };
    this.#failures += 1;
  }

  /** The list of all nodes has changed. An empty one is a coordinator's that knows none yet: the last good one stays. */
  listed(listed: readonly Node[], key: StreamKey): void {
    if (listed.length === 0) return;
    const kept = this.#order.flatMap((node) => listed.find((other) => other.node.id === node.node.id) ?? []);
    this.#order = [...kept, ...missing(kept, listed, key)];
  }

  /** Time has passed. */
  timeout(dice: Dice, now: Instant): void {
    const call = this.#call;
    switch (call.kind) {
      case "asked":
        if (now >= call.until) this.failed(dice, now);
        break;
      case "none":
        if (this.#token !== undefined && now >= this.#token.renewAt) this.want(now);
        break;
      case "due":
        break;
      default:
        unreachable(call);
    }
  }

  /** When time matters next. `reachable`: whether a coordinator is there to be asked. */
  pollTimeout(reachable: boolean): Instant | undefined {
    const call = this.#call;
    switch (call.kind) {
      case "asked": return call.until;
      case "due": return reachable ? call.at : undefined;
      case "none": return this.#token?.renewAt;
      default: return unreachable(call);
    }
  }
}

/** What the order lacks: healthy nodes first, then as the stream's meeting order says. */
function missing(order: readonly Node[], listed: readonly Node[], key: StreamKey): readonly Node[] {
  const ordered = new Set(order.map((node) => node.node.id));
  const more = listed.filter((node) => !ordered.has(node.node.id));
  const meeting = meetingOrder(key, more.map((node) => node.node.id));
  const place = (node: Node) => meeting.indexOf(node.node.id);
  return more.sort((a, b) => compareHealth(a.health, b.health) || place(a) - place(b));
}
