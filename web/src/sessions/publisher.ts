/** A publisher on the page: what it sends, switching it, and muting it. */

import { type Choice, open } from "../picture/choice";
import type { Source } from "../picture/source";
import type { Kind, Publisher } from "../sdk";
import { nameOf } from "../timeline/sentences";
import { button, field, fill, select } from "../ui/dom";
import { Bound, type Page } from "./session";

/** What is published, by kind. */
export type Sources = Partial<Record<Kind, Source>>;

/** What a kind is called on the page, and a sentence's start. */
const NOUNS = { video: "Picture", audio: "Sound" } as const;

/** A publisher, its sources, and its card. */
export class PublisherSession extends Bound {
  readonly #selects: Partial<Record<Kind, HTMLSelectElement>> = {};

  constructor(
    private readonly publisher: Publisher,
    private readonly sources: Sources,
    chosen: Readonly<Record<Kind, string>>,
    private readonly surroundings: Page,
    again: () => Promise<void>,
  ) {
    const subject = { kind: "publish", key: `${publisher.room}/${publisher.stream}` } as const;
    super(subject, publisher, surroundings, () => stopAll(sources), again);
    for (const kind of ["video", "audio"] as const) {
      if (sources[kind] === undefined) continue;
      this.#addControls(kind, chosen[kind]);
    }
    this.#preview();
    publisher.on("trackEnded", ({ kind }) => {
      const text = `${nameOf(subject)}: the browser ended its ${NOUNS[kind].toLowerCase()}. Choose another one on its card.`;
      surroundings.tell({ tone: "warn", text });
    });
  }

  /** Offers these pictures and sounds from now on. */
  offer(choices: Readonly<Record<Kind, readonly Choice[]>>): void {
    for (const kind of ["video", "audio"] as const) {
      const element = this.#selects[kind];
      if (element === undefined) continue;
      const label = this.sources[kind]?.track.label;
      const value = element.value;
      fill(element, choices[kind]);
      // "Any camera" has become one with a name.
      const current = choices[kind].find((choice) => choice[0] === value) ?? choices[kind].find((choice) => choice[1] === label);
      if (current !== undefined) element.value = current[0];
    }
  }

  #addControls(kind: Kind, chosen: string): void {
    const element = select([[chosen, chosen]], { data: { switch: kind } });
    element.onchange = () => void this.#switch(kind, element.value).catch((error: Error) => this.card.problem(error.message));
    this.#selects[kind] = element;
    this.card.extra.append(field(NOUNS[kind], element));
    const mute = button(`Mute ${NOUNS[kind].toLowerCase()}`, () => {
      const muted = !this.publisher.muted(kind);
      this.publisher.mute(kind, muted);
      mute.setAttribute("aria-pressed", String(muted));
      this.surroundings.tell({ tone: "info", text: `${nameOf(this.subject)}: ${NOUNS[kind].toLowerCase()} ${muted ? "muted" : "on again"}.` });
    }, (error) => this.card.problem(error.message), { data: { action: `mute-${kind}` }, aria: { pressed: "false" } });
    this.card.actions.prepend(mute);
  }

  async #switch(kind: Kind, choice: string): Promise<void> {
    this.card.problem("");
    const next = await open(kind, choice, this.subject.key);
    await this.publisher.replaceTrack(kind, next.track);
    this.sources[kind]?.stop();
    this.sources[kind] = next;
    this.#preview();
    this.surroundings.tell({ tone: "info", text: `${nameOf(this.subject)}: ${NOUNS[kind].toLowerCase()} switched; players go on.` });
  }

  #preview(): void {
    const track = this.sources.video?.track;
    this.video.srcObject = track === undefined ? null : new MediaStream([track]);
  }
}

/** Ends every source. */
export function stopAll(sources: Sources): void {
  for (const source of Object.values(sources)) source?.stop();
}

/** The sources as tracks, for the SDK. */
export function tracksOf(sources: Sources): { audio: MediaStreamTrack | null; video: MediaStreamTrack | null } {
  return { audio: sources.audio?.track ?? null, video: sources.video?.track ?? null };
}
