/** A player on the page: one video element for its whole life, whatever nodes it comes from. */

import type { Player } from "../sdk";
import { idleSentence } from "../timeline/sentences";
import { button } from "../ui/dom";
import { Bound, type Page } from "./session";

/** How long nothing must flow before the time line says so: a stream that was just found flows a moment later. */
const TELL_IDLE_AFTER_MS = 1_000;

/** Whether the time line knows of a stream that does not flow. */
type Idle = { kind: "flowing" } | { kind: "waiting"; timer: ReturnType<typeof setTimeout> } | { kind: "told" };

/** A player and its card. */
export class PlayerSession extends Bound {
  #idle: Idle = { kind: "flowing" };

  constructor(player: Player, page: Page, again: () => Promise<void>) {
    super({ kind: "play", key: `${player.room}/${player.stream}` }, player, page, () => this.#setIdle(false, page), again);
    this.video.srcObject = player.media;
    const { video } = this;
    const sound = button("Sound on", async () => {
      video.muted = !video.muted;
      sound.setAttribute("aria-pressed", String(!video.muted));
      await video.play();
    }, (error) => this.card.problem(`The browser does not play this: ${error.message}. Press the button again.`), {
      data: { action: "sound" },
      aria: { pressed: "false" },
    });
    this.card.actions.prepend(sound);
    player.on("idle", ({ idle }) => this.#setIdle(idle, page));
    this.#setIdle(player.idle, page);
  }

  #setIdle(idle: boolean, page: Page): void {
    const before = this.#idle;
    this.card.idle(idle);
    if (before.kind === "waiting") clearTimeout(before.timer);
    if (!idle) {
      this.#idle = { kind: "flowing" };
      if (before.kind === "told" && this.state.number !== 0) page.tell(idleSentence(this.subject, false));
    } else if (before.kind === "flowing") {
      const timer = setTimeout(() => {
        this.#idle = { kind: "told" };
        page.tell(idleSentence(this.subject, true));
      }, TELL_IDLE_AFTER_MS);
      this.#idle = { kind: "waiting", timer };
    }
  }
}
