/** What publishers and players on the page have in common: a card, the time line, an end. */

import type { Player, PlayerState, Publisher, PublisherState, Room } from "../sdk";
import { attemptSentence, gapSentence, type Sentence, streamSentence, type Subject } from "../timeline/sentences";
import { button, h, say } from "../ui/dom";
import { SessionCard } from "./card";

/** What a session asks of the page. */
export interface Page {
  /** Adds a sentence to the time line. */
  tell(sentence: Sentence | null): void;
  /** Something changed that other panels show. */
  changed(): void;
  /** Kills a node; `null` where the page may not. */
  readonly kill: ((node: string) => Promise<void>) | null;
  /** Takes a session off the page. */
  forget(session: Session): void;
}

/** A publisher or player on the page. */
export interface Session {
  readonly subject: Subject;
  readonly element: HTMLElement;
  readonly state: PublisherState | PlayerState;
  /** The last gap, in milliseconds. */
  readonly lastGap: { readonly ms: number; readonly before: string; readonly after: string } | null;
  /** Ends it. */
  stop(): void;
}

/** Binds a publisher or player to a card. `ended` is called once, when it has stopped for good. */
export class Bound implements Session {
  readonly card: SessionCard;
  readonly video: HTMLVideoElement;
  lastGap: Session["lastGap"] = null;
  state: PublisherState | PlayerState;
  readonly #kill: HTMLButtonElement | null;
  /** What was said of nodes since the session last worked. */
  readonly #told = new Set<string>();

  constructor(
    readonly subject: Subject,
    private readonly source: Publisher | Player,
    private readonly page: Page,
    private readonly ended: () => void,
    again: () => Promise<void>,
  ) {
    this.video = h("video", { muted: true, autoplay: true, playsInline: true, aria: { label: `Picture of ${subject.key}` } });
    this.card = new SessionCard(subject, this.video);
    this.state = source.state;
    const failed = (error: Error) => this.card.problem(error.message);
    const { kill } = page;
    this.#kill = kill === null ? null : button("Kill", async () => {
      if (this.state.node !== null) await kill(this.state.node.id);
    }, failed, { className: "danger", data: { action: "kill" } });
    const stop = button("Stop", () => this.source.stop(), failed, { data: { action: "stop" } });
    const retry = button("Try again", async () => { page.forget(this); await again(); }, failed, { className: "primary", data: { action: "retry" } });
    const dismiss = button("Dismiss", () => page.forget(this), failed, { data: { action: "dismiss" } });
    if (this.#kill !== null) this.card.actions.append(this.#kill);
    this.card.actions.append(stop, retry, dismiss);
    this.#listen();
    this.#show(null, this.state);
  }

  get element(): HTMLElement {
    return this.card.element;
  }

  stop(): void {
    this.source.stop();
  }

  #listen(): void {
    const { subject, page } = this;
    // The two kinds share these events, yet their types differ in the name of the state alone.
    const source = this.source as Player;
    source.on("state", (now) => {
      const before = this.state;
      this.state = now;
      this.#show(before, now);
      if (now.number === 2) this.#told.clear();
      if (now.number === 0) this.#finish(now.final);
      page.changed();
    });
    source.on("attempt", (attempt) => {
      // A walk that goes round and round says the same of each node once.
      const fact = `${attempt.node.id} ${attempt.outcome}`;
      if (this.state.number !== 2 && this.#told.has(fact)) return;
      this.#told.add(fact);
      page.tell(attemptSentence(subject, attempt));
    });
    source.on("gap", (gap) => {
      this.lastGap = { ms: gap.ms, before: gap.before.id, after: gap.after.id };
      this.card.gap(gap);
      page.tell(gapSentence(subject, gap));
      page.changed();
    });
    source.on("quality", (quality) => this.card.quality(quality));
  }

  #show(before: PublisherState | PlayerState | null, now: PublisherState | PlayerState): void {
    this.card.state(now);
    this.page.tell(streamSentence(this.subject, before, now));
    if (this.#kill !== null) {
      this.#kill.hidden = now.node === null;
      say(this.#kill, `Kill ${now.node?.id ?? ""}`);
    }
  }

  #finish(final: boolean): void {
    this.ended();
    // A failure stays on the page until the person has seen it.
    if (!final) this.page.forget(this);
  }
}

/** Waits until a room is connected. Rejects with the reason if it never is. */
export function connected(room: Room): Promise<Room> {
  if (room.state.number === 2) return Promise.resolve(room);
  return new Promise((resolve, reject) => {
    const off = room.on("state", ({ number, final, text }) => {
      if (number === 1) return;
      off();
      if (number === 2) resolve(room);
      else reject(new Error(final ? `Room ${room.id}: ${text}.` : `Room ${room.id} was left.`));
    });
  });
}
