/** What a walk hears and what it wants. */

import type { Node, NodeRef } from "../ids";
import type { Instant } from "../time";
import type { AttemptId, Failure, Trial } from "../trial";

/** Whether a dialled session is to be the active one at once, or only when it is used. */
export type Standing = "active" | "standby";

/** Why a walk is over. */
export type Ending =
  /** Somebody else ended it: the app, or a final word. */
  | "stopped"
  /** Every node was tried and failed, while the network works. */
  | "allFailed"
  /** The retry clock has run out. */
  | "gaveUp"
  /** A node has proved that somebody holds a higher claim (PUB-5). */
  | "fenced";

/** What a walk hears. */
export type WalkInput =
  /** The list, in the order in which its nodes are to be tried. */
  | { readonly kind: "nodes"; readonly nodes: readonly Node[] }
  /** The attempt's session can be used. */
  | { readonly kind: "ready"; readonly attempt: AttemptId }
  /** Something came from the node, at that time. */
  | { readonly kind: "heard"; readonly attempt: AttemptId; readonly at: Instant }
  /** The attempt has failed, or its session is lost. */
  | { readonly kind: "failed"; readonly attempt: AttemptId; readonly failure: Failure }
  /** The node's process is gone: hard evidence. */
  | { readonly kind: "gone"; readonly node: NodeRef }
  /** The node may be in trouble: soft evidence. */
  | { readonly kind: "suspect"; readonly node: NodeRef }
  /** Somebody answered somebody of this client; the shared evidence says who. */
  | { readonly kind: "networkAnswered" }
  /** The session in use gives no stream any more (a play whose origin is lost): the retry clock runs. */
  | { readonly kind: "starved" }
  /** It does again. */
  | { readonly kind: "fed" }
  /** An end from outside. */
  | { readonly kind: "stop" }
  /** Time has passed. */
  | { readonly kind: "timeout" };

/** What a walk wants. */
export type WalkOutput =
  /** Open a session. */
  | { readonly kind: "dial"; readonly attempt: AttemptId; readonly node: Node; readonly standing: Standing }
  /** Use it. */
  | { readonly kind: "use"; readonly attempt: AttemptId; readonly node: NodeRef; readonly standing: Standing }
  /** End an attempt or a session. */
  | { readonly kind: "hang"; readonly attempt: AttemptId }
  /** A sign of a coordinator is wanted. */
  | { readonly kind: "ask" }
  /** A trial for the trace is there. */
  | { readonly kind: "tried"; readonly trial: Trial }
  /** The session in use is lost. */
  | { readonly kind: "interrupted" }
  /** Nothing follows. */
  | { readonly kind: "ended"; readonly ending: Ending };

/** The attempts in a walk's hands. */
export interface Attempts {
  readonly inUse: AttemptId | undefined;
  readonly dialing: AttemptId | undefined;
}
