/**
 * Sessions at nodes and the event connections to them, as the machines want them.
 *
 * Invariant: a report of an event connection that was let go, or opened again since, changes nothing; what comes of a
 * session later still carries its attempt, which the machines know to be old.
 */

import type { Timers } from "./clock";
import { ErrorCode, type NodeRef } from "./machine/ids";
import type { Input, Output } from "./machine/io";
import type { AttemptId } from "./machine/trial";
import { type Dial, Session } from "./media/session";
import { EventLink, type NodeReport } from "./node/events";

/** The text by which a life of a node is kept in a map. */
function lifeOf({ id, incarnation }: NodeRef): string {
  return `${id}/${incarnation}`;
}

/** All sessions of a client. */
export class Sessions {
  readonly #open = new Map<AttemptId, Session>();
  readonly #links = new Map<string, EventLink>();
  readonly #goodbyes = new Set<Promise<unknown>>();

  constructor(private readonly timers: Timers, private readonly input: (input: Input) => void) {}

  get(attempt: AttemptId): Session | undefined {
    return this.#open.get(attempt);
  }

  [Symbol.iterator](): IterableIterator<Session> {
    return this.#open.values();
  }

  /** Opens one. `prepare` adds the transceivers. */
  dial(dial: Dial, prepare: (peer: RTCPeerConnection) => void): void {
    const { attempt, node } = dial;
    const session = new Session(dial, prepare, {
      answered: (name) => {
        this.#links.get(lifeOf(node.node))?.watch(name);
        this.input({ kind: "answered", attempt });
      },
      up: () => this.input({ kind: "up", attempt }),
      media: () => this.input({ kind: "media", attempt }),
      heard: (at) => this.input({ kind: "heard", attempt, at }),
      failed: (failure) => this.input({ kind: "failed", attempt, failure }),
    });
    this.#open.set(attempt, session);
  }

  /** Makes a publishing session the active one. */
  activate({ attempt, claim }: Extract<Output, { kind: "activate" }>): void {
    const session = this.#open.get(attempt);
    if (session?.name !== undefined) this.#links.get(lifeOf(session.dial.node.node))?.activate(session.name, claim);
  }

  /** Ends one. */
  hang(attempt: AttemptId): void {
    const session = this.#open.get(attempt);
    if (session === undefined) return;
    this.#open.delete(attempt);
    const goodbye = session.close();
    this.#goodbyes.add(goodbye);
    void goodbye.finally(() => this.#goodbyes.delete(goodbye));
  }

  /** Opens the event connection to a node, and watches the sessions that are there. */
  openEvents({ node: { node, httpUrl } }: Extract<Output, { kind: "openEvents" }>): void {
    const life = lifeOf(node);
    this.#links.get(life)?.close();
    const link = new EventLink(httpUrl, this.timers, (report) => this.#told(node, report));
    this.#links.set(life, link);
    for (const session of this.#open.values()) {
      if (lifeOf(session.dial.node.node) === life && session.name !== undefined) link.watch(session.name);
    }
  }

  /** Lets it go. */
  closeEvents(node: NodeRef): void {
    this.#links.get(lifeOf(node))?.close();
    this.#links.delete(lifeOf(node));
  }

  #told(node: NodeRef, report: NodeReport): void {
    switch (report.kind) {
      case "welcome":
        return this.input({ kind: "eventsUp", node, life: report.life });
      case "session": {
        const session = this.#named(node, report.session);
        if (session === undefined) return;
        session.phase = report.phase;
        session.claim = report.claim ?? session.claim;
        const { attempt } = session.dial;
        return this.input({ kind: "phase", attempt, phase: report.phase, claim: report.claim });
      }
      case "closed": {
        const attempt = this.#named(node, report.session)?.dial.attempt;
        const fenced = report.code === ErrorCode.StreamTaken;
        const failure = fenced ? { kind: "higherClaim" } as const : { kind: "closed", detail: report.reason } as const;
        if (attempt !== undefined) this.input({ kind: "failed", attempt, failure });
        return;
      }
      case "lost":
        this.#links.delete(lifeOf(node));
        return this.input({ kind: "eventsLost", node, loss: report.loss });
    }
  }

  /** The session behind a name at a node. */
  #named(node: NodeRef, name: string): Session | undefined {
    for (const session of this.#open.values()) {
      if (session.name === name && lifeOf(session.dial.node.node) === lifeOf(node)) return session;
    }
    return undefined;
  }

  /** Ends whatever the machines have left. */
  stop(): void {
    for (const attempt of [...this.#open.keys()]) this.hang(attempt);
    for (const link of this.#links.values()) link.close();
    this.#links.clear();
  }

  /** Resolves when every node was told of the sessions that ended. */
  async finish(): Promise<void> {
    await Promise.all(this.#goodbyes);
  }
}
