/** The form to publish: what, under which name, in which codec. */

import type { Console } from "../console";
import type { VideoCodecName } from "../sdk";
import { button, field, fill, h, say, select } from "../ui/dom";

/** The codecs on offer; the empty one leaves the order to the browser. */
const CODECS: readonly (readonly [VideoCodecName | "", string])[] =
  [["", "Auto"], ["VP8", "VP8"], ["VP9", "VP9"], ["H264", "H.264"], ["AV1", "AV1"]];

/** The panel. */
export class PublishPanel {
  readonly #picture = select([], { id: "publish-picture" });
  readonly #sound = select([], { id: "publish-sound" });

  constructor(panel: HTMLElement, private readonly app: Console) {
    const room = h("input", { id: "publish-room", value: "lobby", autocomplete: "off", spellcheck: false });
    const stream = h("input", { id: "publish-stream", value: "picture", autocomplete: "off", spellcheck: false });
    const codec = select(CODECS, { id: "publish-codec" });
    const note = h("p", { className: "problem", id: "publish-note", hidden: true, role: "alert" });
    const start = button("Publish", async () => {
      note.hidden = true;
      const preferred = CODECS.find(([value]) => value === codec.value)?.[0] ?? "";
      await app.publish({
        room: room.value.trim(),
        stream: stream.value.trim(),
        choice: { video: this.#picture.value, audio: this.#sound.value },
        options: preferred === "" ? {} : { codecs: [preferred] },
      });
    }, (error) => { note.hidden = false; say(note, error.message); }, { id: "publish-start", className: "primary" });
    panel.append(
      h("h2", {}, "Publish"),
      h("div", { className: "form" },
        field("Room", room), field("Stream", stream), field("Picture", this.#picture), field("Sound", this.#sound), field("Codec", codec), start),
      note,
    );
    this.show();
  }

  /** Shows the pictures and sounds that there are now. */
  show(): void {
    this.#fill(this.#picture, this.app.choices.video, "No picture");
    this.#fill(this.#sound, this.app.choices.audio, "No sound");
  }

  #fill(element: HTMLSelectElement, choices: readonly (readonly [string, string])[], none: string): void {
    const options = [...choices, ["", none] as const];
    const same = options.length === element.options.length
      && options.every(([value, label], index) => element.options[index]?.value === value && element.options[index]?.label === label);
    if (!same) fill(element, options);
  }
}
