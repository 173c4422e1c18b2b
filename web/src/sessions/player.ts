/** A player on the page: one video element for its whole life, whatever nodes it comes from. */

import type { Player } from "../sdk";
import { button } from "../ui/dom";
import { Bound, type Page } from "./session";

/** A player and its card. */
export class PlayerSession extends Bound {
  constructor(player: Player, page: Page, again: () => Promise<void>) {
    super({ kind: "play", key: `${player.room}/${player.stream}` }, player, page, () => undefined, again);
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
  }
}
