/** The demonstration, as four steps: publish, play, kill the node, look at the gap. Under `waystation dev` only. */

import type { Console } from "../console";
import type { DevRelay } from "../dev";
import type { Session } from "../sessions/session";
import { button, h, Keyed, mark, say } from "../ui/dom";
import { list, milliseconds } from "../ui/format";

/** Where the demonstration takes place. Its stream is named after the visitor: two visitors do not hinder each other. */
const ROOM = "lobby";

/** How far a person has come. */
export type Progress = "publish" | "play" | "kill" | "wait" | "done";

type Gap = Session["lastGap"];

/** A session that a kill hit. */
export interface Hit {
  readonly session: Session;
  /** The gap that it showed before. */
  readonly before: Gap;
  /** The first gap after; `null` until there is one. */
  readonly gap: Gap;
}

/** What the last kill led to. */
export interface Kill {
  readonly node: string;
  readonly hits: readonly Hit[];
}

/** A kill of a node: it hits the sessions that are on it, and the players of publishers that are. Players come first. */
export function killOf(node: string, sessions: readonly Session[]): Kill {
  const on = sessions.filter(({ state }) => state.node?.id === node);
  const cut = new Set(on.filter(({ subject }) => subject.kind === "publish").map(({ subject }) => subject.key));
  const hits = sessions
    .filter((session) => on.includes(session) || (session.subject.kind === "play" && cut.has(session.subject.key)))
    .map((session) => ({ session, before: session.lastGap, gap: null }))
    .sort((a, b) => a.session.subject.kind.localeCompare(b.session.subject.kind));
  return { node, hits };
}

/** The kill with the first gap of each session that has one by now. Later gaps are not of this kill. */
export function settled(kill: Kill): Kill {
  const hits = kill.hits.map((hit) => (hit.gap === null && hit.session.lastGap !== hit.before ? { ...hit, gap: hit.session.lastGap } : hit));
  return { ...kill, hits };
}

/** The step that comes next. */
export function progressOf(sessions: readonly Session[], kill: Kill | null): Progress {
  const flows = (kind: "publish" | "play") => sessions.some(({ subject, state }) => subject.kind === kind && state.number === 2);
  const live = kill === null ? [] : kill.hits.filter(({ session }) => sessions.includes(session) && session.state.number !== 0);
  if (live.length > 0) return live.every(({ gap }) => gap !== null) ? "done" : "wait";
  if (!flows("publish")) return "publish";
  return flows("play") ? "kill" : "play";
}

/** What came of a kill, in words. */
export function resultOf(kill: Kill): string {
  const sentences = kill.hits.map(({ session, gap }) => {
    const { kind, key } = session.subject;
    const alone = kill.hits.filter((hit) => hit.session.subject.kind === kind).length === 1;
    const noun = `${kind === "play" ? "player" : "publisher"}${alone ? "" : ` of ${key}`}`;
    if (gap === null) return session.state.number === 0 ? `the ${noun} found no other node` : `the ${noun} is moving`;
    return `the ${noun} went on at ${gap.after} after ${milliseconds(gap.ms)}`;
  });
  return `${kill.node} is dead: ${list(sentences)}.`;
}

/** The nodes in use by this page, with what uses them. */
export function nodesInUse(sessions: readonly Session[]): { node: string; uses: string }[] {
  const uses = new Map<string, Set<string>>();
  for (const { subject, state } of sessions) {
    const node = state.number === 2 ? state.node?.id : undefined;
    if (node === undefined) continue;
    const there = uses.get(node) ?? new Set<string>();
    uses.set(node, there.add(subject.kind === "play" ? "player" : "publisher"));
  }
  return [...uses].map(([node, who]) => ({ node, uses: list([...who].sort()) })).sort((a, b) => a.node.localeCompare(b.node));
}

const ORDER: readonly Progress[] = ["publish", "play", "kill", "wait", "done"];

/** The panel. */
export class Guide {
  readonly #steps: readonly HTMLElement[];
  readonly #publish: HTMLButtonElement;
  readonly #play: HTMLButtonElement;
  readonly #published = h("p", { className: "quiet" });
  readonly #played = h("p", { className: "quiet" });
  readonly #kills: Keyed<{ node: string; uses: string }, { element: HTMLButtonElement }>;
  readonly #idle = h("p", { className: "quiet" }, "Once something plays, its node can be killed here.");
  readonly #figure = h("p", { className: "figure", data: { part: "figure" } }, "– ms");
  readonly #result = h("p", { className: "quiet", role: "status" });
  readonly #revive: HTMLButtonElement;
  #dead: string[] = [];
  #kill: Kill | null = null;

  constructor(private readonly panel: HTMLElement, app: Console, kill: (node: string) => Promise<void>, start: (node: string) => Promise<void>) {
    const note = h("p", { className: "problem", hidden: true, role: "alert" });
    const failed = (error: Error) => { note.hidden = false; say(note, error.message); };
    const fresh = (work: () => Promise<void>) => () => { note.hidden = true; return work(); };
    this.#publish = button("Publish the test picture", fresh(() => app.publish({
      room: ROOM, stream: app.user, choice: { video: "test", audio: "tone" }, options: {},
    })), failed, { id: "guide-publish", className: "primary" });
    this.#play = button("Play it", fresh(() => app.play(ROOM, app.user)), failed, { id: "guide-play", className: "primary" });
    this.#revive = button("Start it again", fresh(async () => { for (const node of this.#dead) await start(node); }), failed, { id: "guide-revive" });
    const kills = h("div", { className: "actions", id: "guide-kills" });
    this.#kills = new Keyed(kills, ({ node }) => node, ({ node }) => {
      const properties = { className: "danger solid", data: { action: "kill", node } };
      return { element: button(`Kill ${node}`, fresh(() => kill(node)), failed, properties) };
    }, ({ element }, { node, uses }) => say(element, `Kill ${node} (${uses})`));
    this.#steps = [
      step("Publish", "A picture with frame numbers, and a tone, go into the room lobby.", this.#publish, this.#published),
      step("Play", "The same stream comes back through the cluster.", this.#play, this.#played),
      step("Kill the node", "SIGKILL: its process is gone without a word.", kills, this.#idle),
      step("Look at the gap", "How long the media stood still.", this.#figure, this.#result, this.#revive),
    ];
    panel.append(h("h2", { className: "hidden" }, "Demonstration"), h("ol", {}, ...this.#steps), note);
  }

  /** A node is about to be killed: what is on it now will move. */
  killing(node: string, sessions: readonly Session[]): void {
    const kill = killOf(node, sessions);
    if (kill.hits.length > 0) this.#kill = kill;
  }

  show(sessions: readonly Session[], relays: readonly DevRelay[]): void {
    const focused = this.panel.contains(document.activeElement);
    if (this.#kill !== null) this.#kill = settled(this.#kill);
    const progress = progressOf(sessions, this.#kill);
    const at = ORDER.indexOf(progress);
    this.#steps.forEach((element, index) => {
      const own = Math.min(at, 3);
      mark(element, "step", progress === "done" || index < own ? "done" : index === own ? "now" : "later");
      if (index === own) element.setAttribute("aria-current", "step");
      else element.removeAttribute("aria-current");
    });
    const of = (kind: "publish" | "play") => sessions.find(({ subject, state }) => subject.kind === kind && state.number !== 0);
    showStep(this.#publish, this.#published, of("publish"), "is published to");
    showStep(this.#play, this.#played, of("play"), "is played from");
    this.#play.disabled = of("publish") === undefined;
    const nodes = at < 2 ? [] : nodesInUse(sessions);
    this.#kills.show(nodes);
    this.#idle.hidden = nodes.length > 0;
    this.#showResult();
    this.#dead = relays.filter(({ state }) => state !== "running").map(({ id }) => id);
    this.#revive.hidden = this.#dead.length === 0;
    say(this.#revive, `Start ${list(this.#dead)} again`);
    this.#keepFocus(focused);
  }

  /** A button that was pressed may be gone now: the focus goes on to the step that is next. */
  #keepFocus(focused: boolean): void {
    const { activeElement } = document;
    if (!focused || (this.panel.contains(activeElement) && activeElement?.closest("[hidden]") === null)) return;
    this.panel.querySelector<HTMLElement>('[aria-current="step"] button:not([hidden])')?.focus();
  }

  #showResult(): void {
    if (this.#kill === null) return say(this.#result, "");
    const known = this.#kill.hits.flatMap(({ gap }) => gap ?? []);
    say(this.#figure, known[0] === undefined ? "… ms" : milliseconds(known[0].ms));
    say(this.#result, resultOf(this.#kill));
  }
}

function step(title: string, text: string, ...children: HTMLElement[]): HTMLElement {
  return h("li", {}, h("h3", {}, title), h("p", {}, text), ...children);
}

/** The step's button, or once it is done what came of it. */
function showStep(work: HTMLElement, result: HTMLElement, session: Session | undefined, words: string): void {
  work.hidden = session !== undefined;
  result.hidden = session === undefined;
  if (session !== undefined) say(result, `${session.subject.key} ${words} ${session.state.node?.id ?? "no node yet"}.`);
}
