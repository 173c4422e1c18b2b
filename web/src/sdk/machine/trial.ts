/**
 * What became of an attempt, and the trace of a walk.
 *
 * Invariant: a trace is bounded; of a long walk it keeps the newest trials.
 */

import type { TraceEntry } from "./event";
import { unreachable, type NodeRef } from "./ids";
import { elapsed, type Duration, type Instant } from "./time";

/** Trials that a trace keeps: every node of a large list, some rounds of a small one. */
const MAX_TRIALS = 128;

/** Names an attempt for its client's life: an answer to an old one changes nothing. */
export type AttemptId = number;

/** Why a session was not set up, or was lost. */
export type Failure =
  /** Nobody listens there, or the connection broke before an answer. */
  | { readonly kind: "unreachable"; readonly detail: string }
  /** Not up within the attempt's time. */
  | { readonly kind: "timedOut" }
  /** The node does not find the stream now (PLAY-3). Not the node's fault. */
  | { readonly kind: "notHere" }
  /** The node proves that somebody holds the stream under a higher claim (PUB-5). */
  | { readonly kind: "higherClaim" }
  /** The node does not take the token: its clock or its keys may be wrong (PUB-5). */
  | { readonly kind: "tokenRefused"; readonly detail: string }
  /**
   * The node says that the login was ended: the user was kicked, or logged in elsewhere. Not the node's fault, and not its to
   * say with which code the stream ends: the room's end follows, or a plan in the name of the room's new login.
   */
  | { readonly kind: "loginEnded"; readonly detail: string }
  /** Some other refusal of the node: full, leaving, or an unusable answer. */
  | { readonly kind: "refused"; readonly detail: string }
  /** The transport was up and is down. */
  | { readonly kind: "down" }
  /** The node ended the session. */
  | { readonly kind: "closed"; readonly detail: string }
  /** Nothing came from the node any more. */
  | { readonly kind: "silent" }
  /** The process behind the address is gone: it refuses connections, or another life of the node answers. */
  | { readonly kind: "gone" }
  /** The app, or a better session, made it superfluous. */
  | { readonly kind: "unneeded" };

/** In words. */
export function failureText(failure: Failure): string {
  switch (failure.kind) {
    case "unreachable": return `unreachable: ${failure.detail}`;
    case "timedOut": return "timed out";
    case "notHere": return "the stream is not here now";
    case "higherClaim": return "fenced by a higher claim";
    case "tokenRefused": return `token refused by the node: ${failure.detail}`;
    case "loginEnded": return `the login was ended, says the node: ${failure.detail}`;
    case "refused": return `refused: ${failure.detail}`;
    case "down": return "connection lost";
    case "closed": return `ended by the node: ${failure.detail}`;
    case "silent": return "silent";
    case "gone": return "node is gone";
    case "unneeded": return "not needed any more";
    default: return unreachable(failure);
  }
}

/** The word for `Report`. */
export function failureWord(failure: Failure): string {
  switch (failure.kind) {
    case "unreachable":
    case "gone":
      return "unreachable";
    case "timedOut":
      return "timed_out";
    case "notHere":
      return "not_here";
    case "higherClaim":
    case "tokenRefused":
    case "loginEnded":
    case "refused":
      return "refused";
    case "down":
    case "closed":
    case "silent":
      return "media_lost";
    case "unneeded":
      return "unneeded";
    default:
      return unreachable(failure);
  }
}

/** Whether the node itself answered: then its failure is its own word, whoever else is in reach. */
export function isAnswer(failure: Failure): boolean {
  switch (failure.kind) {
    case "notHere":
    case "higherClaim":
    case "tokenRefused":
    case "loginEnded":
    case "refused":
    case "closed":
      return true;
    case "unreachable":
    case "timedOut":
    case "down":
    case "silent":
    case "gone":
    case "unneeded":
      return false;
    default:
      return unreachable(failure);
  }
}

/** How an attempt ended. */
export type Outcome =
  /** Its session came to be used. */
  | { readonly kind: "used" }
  /** It failed, or its session was lost. */
  | { readonly kind: "failed"; readonly failure: Failure }
  /** It failed while nobody answered: it does not count against its node (PUB-2). */
  | { readonly kind: "void"; readonly failure: Failure };

/** The word for `Report`. */
export function outcomeWord(outcome: Outcome): string {
  switch (outcome.kind) {
    case "used": return "used";
    case "failed": return failureWord(outcome.failure);
    case "void": return "void";
    default: return unreachable(outcome);
  }
}

/** In words. */
export function outcomeText(outcome: Outcome): string {
  switch (outcome.kind) {
    case "used": return "used";
    case "failed": return failureText(outcome.failure);
    case "void": return `void: ${failureText(outcome.failure)}`;
    default: return unreachable(outcome);
  }
}

/** One attempt in a trace. */
export interface Trial {
  readonly attempt: AttemptId;
  /** At which node. */
  readonly node: NodeRef;
  /** When it started. */
  readonly started: Instant;
  /** How it ended. */
  readonly outcome: Outcome;
  /** From its start to its end. */
  readonly took: Duration;
}

/** The trials of a walk, in the order of their ends. */
export class Trace {
  #trials: readonly Trial[] = [];

  /** Adds one. */
  push(trial: Trial): void {
    this.#trials = [...this.#trials, trial].slice(-MAX_TRIALS);
  }

  /** Forgets all. */
  clear(): void {
    this.#trials = [];
  }

  /** The trials, as they are now. */
  trials(): readonly Trial[] {
    return this.#trials;
  }

  /** The attempt turned out to be void. */
  void(attempt: AttemptId): void {
    this.#trials = this.#trials.map((trial) =>
      trial.attempt === attempt && trial.outcome.kind === "failed"
        ? { ...trial, outcome: { kind: "void", failure: trial.outcome.failure } }
        : trial);
  }

  /** As extended data: node, what happened, when (from the first trial's start), how long. */
  entries(): readonly TraceEntry[] {
    const start = this.#trials.reduce((first, trial) => Math.min(first, trial.started), Infinity);
    return this.#trials.map((trial) => ({
      attempt: trial.attempt,
      node: trial.node.id,
      incarnation: trial.node.incarnation,
      outcome: outcomeWord(trial.outcome),
      detail: outcomeText(trial.outcome),
      at_ms: Math.floor(elapsed(start, trial.started)),
      took_ms: Math.floor(trial.took),
    }));
  }
}
