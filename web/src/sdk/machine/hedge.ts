/**
 * How often a client may hedge, and what its machines share besides: evidence that the network works, attempt ids, dice.
 *
 * Invariant: on evidence of silence or suspicion alone, one node in 10 s is hedged against.
 */

import { Dice } from "./backoff";
import { compareText, sameNode, type NodeId, type NodeRef } from "./ids";
import { SortedMap } from "./sorted";
import { elapsed, type Duration, type Instant } from "./time";
import type { AttemptId } from "./trial";

/**
 * Whether a silent node is met with a second session to another one before it is given up (GO-2).
 *
 * `on`: a second session starts when nothing was heard for 300 ms. `off`: a node is left only when its session has failed.
 */
export type Hedging = "on" | "off";

/** From one hedge to the next (GO-2). */
const HEDGE_INTERVAL: Duration = 10_000;

/** Several streams on one silent node make one hedge. */
const SAME_HEDGE: Duration = 1_000;

/** Nodes whose last answers are remembered. */
const MAX_WITNESSES = 1024;

/** The client's allowance of hedges. */
export class Hedges {
  readonly hedging: Hedging;
  #last: { readonly at: Instant; readonly node: NodeRef } | undefined;

  constructor(hedging: Hedging) {
    this.hedging = hedging;
  }

  /** When a hedge against this node may be made; `undefined` is never. */
  allowedAt(node: NodeRef, now: Instant): Instant | undefined {
    if (this.hedging === "off") return undefined;
    if (this.#last === undefined || this.#isSame(node, now)) return now;
    return Math.max(now, this.#last.at + HEDGE_INTERVAL);
  }

  /** A hedge against this node is made. */
  spend(node: NodeRef, now: Instant): void {
    if (!this.#isSame(node, now)) this.#last = { at: now, node };
  }

  /** Whether this is the last hedge again, for another stream. */
  #isSame(node: NodeRef, now: Instant): boolean {
    return this.#last !== undefined && sameNode(this.#last.node, node) && elapsed(this.#last.at, now) < SAME_HEDGE;
  }
}

/** Who answered last: evidence that the network works. */
export class Evidence {
  #coordinator: Instant | undefined;
  readonly #nodes = new SortedMap<NodeId, Instant>(compareText);

  /** A coordinator answered. */
  coordinator(now: Instant): void {
    this.#coordinator = now;
  }

  /** A node answered. */
  node(node: NodeId, at: Instant): void {
    const last = this.#nodes.get(node);
    if (last === undefined && this.#nodes.size === MAX_WITNESSES) this.#nodes.deleteFirst();
    this.#nodes.set(node, last === undefined ? at : Math.max(at, last));
  }

  /**
   * Whether a coordinator or another node answered since. What a coordinator said at that very time is what the attempt
   * came of, and no sign of anybody during it.
   */
  since(except: NodeId, since: Instant): boolean {
    return (this.#coordinator !== undefined && this.#coordinator > since)
      || this.#nodes.entries().some(([node, at]) => node !== except && at >= since);
  }

  /** Whether anybody answered since. */
  anySince(since: Instant): boolean {
    return (this.#coordinator !== undefined && this.#coordinator >= since)
      || this.#nodes.values().some((at) => at >= since);
  }
}

/** What all machines of a client share. */
export class Shared {
  /** All jitter. */
  readonly dice: Dice;
  /** The client's allowance. */
  readonly hedges: Hedges;
  /** Who answered. */
  readonly evidence = new Evidence();
  #lastAttempt: AttemptId = 0;

  /** Of a new client. */
  constructor(seed: bigint, hedging: Hedging) {
    this.dice = new Dice(seed);
    this.hedges = new Hedges(hedging);
  }

  /** An id that was never used. */
  freshAttempt(): AttemptId {
    this.#lastAttempt += 1;
    return this.#lastAttempt;
  }
}
