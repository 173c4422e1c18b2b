/** Plays any stream from any node by plain WHEP, several at once. */

import type { Access } from "../access";
import { button, field, h } from "../dom";
import { play } from "../media";
import { line, received, type Received } from "../stats";
import { type NodeChoice, nodeSelect } from "./node-select";

/** Most players on the page at once. */
const MAX_PLAYERS = 16;
/** How often a player's figures are read. */
const STATS_EVERY_MS = 500;

/** What other panels ask of this one. */
export interface PlayPanel {
  /** Fills in a stream, ready to be played. */
  choose(room: string, stream: string): void;
}

/** The panel. */
export function playPanel(panel: HTMLElement, access: Access, choice: NodeChoice): PlayPanel {
  const room = h("input", { value: "lobby", id: "play-room" });
  const stream = h("input", { value: "camera", id: "play-stream" });
  const user = h("input", { value: "bob", id: "play-user" });
  const node = nodeSelect(choice);
  node.id = "play-node";
  const note = h("p", { className: "note", id: "play-note" });
  const players = h("div", { className: "players", id: "players" });
  const failed = (error: Error) => { note.textContent = error.message; };
  const start = button("Play", async () => {
    if (players.childElementCount >= MAX_PLAYERS) throw new Error(`at most ${MAX_PLAYERS} players at once: stop one first`);
    note.textContent = "";
    const token = await access.token(room.value, user.value);
    const target = { nodeUrl: node.value, room: room.value, stream: stream.value, token };
    players.append(await player(target, choice.idOf(node.value), failed));
  }, failed);
  start.id = "play-start";
  panel.replaceChildren(
    h("h2", {}, "Play"),
    h("div", { className: "form" }, field("Room", room), field("Stream", stream), field("User", user), field("Node", node)),
    h("div", { className: "buttons" }, start),
    note,
    players,
  );
  return {
    choose(chosenRoom, chosenStream) {
      room.value = chosenRoom;
      stream.value = chosenStream;
      panel.scrollIntoView({ behavior: "smooth" });
    },
  };
}

async function player(target: Parameters<typeof play>[0], nodeId: string, failed: (error: Error) => void): Promise<HTMLElement> {
  const media = new MediaStream();
  const video = h("video", { autoplay: true, playsInline: true, controls: true, muted: true });
  video.srcObject = media;
  const session = await play(target, media);
  const title = `${target.room}/${target.stream} from ${nodeId}`;
  const figures = h("span", { className: "figures" });
  const box = h("figure", { className: "player" });
  let before: Received = received([]);
  const timer = setInterval(async () => {
    const now = received((await session.peer.getStats()) as unknown as Iterable<[string, Record<string, unknown>]>);
    figures.textContent = `${session.peer.connectionState} · ${line(now, before, STATS_EVERY_MS / 1000)}`;
    // For whoever drives the page from outside.
    Object.assign(box.dataset, { node: nodeId, frames: now.framesDecoded, audio: now.audioPackets, cipher: now.srtpCipher });
    before = now;
  }, STATS_EVERY_MS);
  const stop = button("Stop", async () => {
    clearInterval(timer);
    box.remove();
    await session.close();
  }, failed);
  box.append(video, h("figcaption", {}, h("strong", {}, title), figures, stop));
  return box;
}
