/**
 * The time line: what happened across all sessions, newest first.
 *
 * Invariant: it holds at most `MAX_ENTRIES`, however long the page stays open.
 */

import { clock } from "../ui/format";
import { h } from "../ui/dom";
import type { Sentence } from "./sentences";

/** Most sentences kept. */
export const MAX_ENTRIES = 200;

/** The panel with its sentences. */
export class Timeline {
  readonly #list: HTMLElement;

  /** `list` is an element that announces what is added to it. */
  constructor(list: HTMLElement) {
    this.#list = list;
  }

  /** Adds a sentence, if there is one. */
  add(sentence: Sentence | null, at: Date = new Date()): void {
    if (sentence === null) return;
    const time = h("time", { dateTime: at.toISOString() }, clock(at));
    this.#list.prepend(h("li", { data: { tone: sentence.tone } }, time, h("span", {}, sentence.text)));
    while (this.#list.childElementCount > MAX_ENTRIES) this.#list.lastElementChild?.remove();
  }

  clear(): void {
    this.#list.replaceChildren();
  }
}
