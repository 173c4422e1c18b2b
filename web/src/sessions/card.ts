/** The card of a publisher or player: its state, its node, the nodes tried, the last gap, its quality. */

import type { GapEvent, PlayerState, PublisherState, Quality, Trial } from "../sdk";
import { advice, outcomeTone, outcomeWords, type Subject, trialLine } from "../timeline/sentences";
import { fact, h, mark, say } from "../ui/dom";
import { bits, duration, milliseconds, percent } from "../ui/format";

/** The gap that fills the meter: what a failover may take. */
const FULL_GAP_MS = 1_000;

/** Most attempts shown: the last ones. */
const SHOWN_TRIALS = 6;

/** Levels whose dot is good, middling, bad. */
const LEVEL_TONES = ["good", "good", "warn", "bad", "bad", "info"] as const;

/** The element, and what changes in it. */
export class SessionCard {
  readonly element: HTMLElement;
  /** Where buttons go. */
  readonly actions: HTMLElement;
  /** Where controls of this kind of session go. */
  readonly extra: HTMLElement;
  readonly #chip = h("span", { className: "chip", data: { part: "state" } });
  /** What lasts for a moment only is said over the picture: nothing below moves for it. */
  readonly #note = h("p", { className: "note", hidden: true });
  readonly #node: HTMLElement;
  readonly #gap: HTMLElement;
  readonly #meter: HTMLElement;
  readonly #quality: HTMLElement;
  readonly #figures: HTMLElement;
  readonly #trace = h("ol", { className: "trace", data: { part: "trace" } });
  readonly #problem = h("p", { className: "problem", hidden: true, data: { part: "problem" } });
  #gaps = 0;
  #muted = false;
  #recovering = "";

  constructor(readonly subject: Subject, video: HTMLVideoElement) {
    const { kind, key } = subject;
    const facts = h("dl", { className: "facts" });
    this.#node = fact(facts, "Node");
    this.#gap = fact(facts, "Last gap");
    this.#quality = fact(facts, "Quality");
    this.#figures = fact(facts, "Media");
    this.#meter = h("span", { className: "meter", aria: { hidden: "true" } });
    this.#gap.parentElement?.append(this.#meter);
    this.actions = h("div", { className: "actions" });
    this.extra = h("div", { className: "extra" });
    const arrow = h("span", { className: `way ${kind}`, aria: { hidden: "true" } }, kind === "publish" ? "↑" : "↓");
    const title = h("h3", {}, arrow, h("span", { className: "verb" }, kind === "publish" ? "Publishing" : "Playing"), ` ${key}`);
    this.element = h("article", { className: "card session", data: { session: `${kind} ${key}`, kind }, aria: { label: `${kind} ${key}` } },
      h("div", { className: "screen" }, video, this.#note),
      h("header", {}, title, this.#chip),
      this.#problem,
      facts,
      h("div", { className: "tried" }, h("h4", {}, "Nodes tried"), this.#trace),
      this.extra,
      this.actions,
    );
    this.#quality.dataset["part"] = "quality";
    this.#gap.dataset["part"] = "gap";
    say(this.#gap, "none yet");
  }

  /** Shows a state. */
  state(state: PublisherState | PlayerState): void {
    const { element } = this;
    mark(element, "state", String(state.number));
    mark(element, "stateName", state.name);
    mark(element, "code", String(state.code));
    mark(element, "node", state.node?.id ?? null);
    mark(element, "attempt", String(state.attempt));
    mark(element, "final", String(state.final));
    mark(this.#chip, "tone", state.number === 2 ? "good" : state.final ? "bad" : state.number === 1 ? "warn" : "info");
    say(this.#chip, `${state.number} ${state.name}`);
    say(this.#node, state.node === null ? "none" : state.node.id);
    if (state.number === 0) this.#forgetQuality();
    if (state.trace.length > 0) this.#showTrace(state.trace);
    this.#showProblem(state);
  }

  /** Shows that nothing flows although all is well, or that it does. */
  idle(idle: boolean): void {
    mark(this.element, "idle", String(idle));
    this.#muted = idle;
    this.#showNote();
  }

  #showProblem(state: PublisherState | PlayerState): void {
    const wait = state.retryAfterMs === null ? "" : ` Wait ${Math.ceil(state.retryAfterMs / 1_000)} s first.`;
    this.problem(state.final ? `${state.code}: ${state.text}. ${advice(state.code)}${wait}` : "");
    this.#recovering = state.code === 0 || state.final ? "" : `${state.code}: ${state.text}`;
    this.#showNote();
  }

  #showNote(): void {
    const text = this.#recovering !== "" ? this.#recovering : this.#muted ? "Muted by its publisher" : "";
    this.#note.hidden = text === "";
    say(this.#note, text);
  }

  /** Shows what is wrong, or nothing. */
  problem(text: string): void {
    this.#problem.hidden = text === "";
    say(this.#problem, text);
  }

  #showTrace(trace: readonly Trial[]): void {
    const skipped = Math.max(0, trace.length - SHOWN_TRIALS);
    this.#trace.style.setProperty("--skipped", String(skipped));
    this.#trace.replaceChildren(...trace.slice(skipped).map((trial) => {
      const { outcome, node, tookMs } = trial;
      return h("li", { title: trialLine(trial), data: { node: node.id, outcome, tookMs: String(Math.round(tookMs)), tone: outcomeTone(outcome) } },
        h("strong", {}, node.id), ` ${outcomeWords(outcome)} `,
        h("span", { className: "took" }, `${outcome === "media_lost" ? "after " : ""}${duration(tookMs)}`));
    }));
  }

  /** Shows a gap. */
  gap(gap: GapEvent): void {
    this.#gaps += 1;
    mark(this.element, "lastGapMs", String(Math.round(gap.ms)));
    mark(this.element, "gaps", String(this.#gaps));
    say(this.#gap, milliseconds(gap.ms));
    this.#meter.style.setProperty("--share", String(Math.min(1, gap.ms / FULL_GAP_MS)));
    mark(this.#meter, "tone", gap.ms > FULL_GAP_MS ? "bad" : "good");
    // Drawn again for each gap: an eye that looks elsewhere is caught.
    this.#gap.classList.remove("flash");
    void this.#gap.offsetWidth;
    this.#gap.classList.add("flash");
  }

  #forgetQuality(): void {
    mark(this.element, "quality", null);
    mark(this.#quality, "tone", null);
    say(this.#quality, "–");
    say(this.#figures, "–");
  }

  /** Shows the quality of the last seconds. */
  quality(quality: Quality): void {
    mark(this.element, "quality", String(quality.level));
    mark(this.#quality, "tone", LEVEL_TONES[quality.level]);
    say(this.#quality, `${quality.level} ${quality.name}`);
    say(this.#figures, qualityFigures(quality));
  }
}

/** The figures of a quality event, in one line. */
export function qualityFigures(quality: Quality): string {
  return [
    bits(quality.bitsPerSecond),
    `${Math.round(quality.framesPerSecond)} fps`,
    ...(quality.codecs.video === undefined ? [] : [quality.codecs.video]),
    ...(quality.rttMs === null ? [] : [`${Math.round(quality.rttMs)} ms away`]),
    ...(quality.loss === null ? [] : [`${percent(quality.loss)} lost`]),
  ].join(" · ");
}
