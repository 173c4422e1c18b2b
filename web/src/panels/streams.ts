/** Rooms and streams, who publishes them, and which node takes them from their publisher. */

import { button, h, table } from "../dom";
import type { Room, Stream } from "../gen/waystation/v1/cluster_pb";

/** Draws the panel. `play` is called with the stream that is to be played. */
export function drawStreams(
  panel: HTMLElement,
  rooms: readonly Room[],
  streams: readonly Stream[],
  play: (room: string, stream: string) => void,
): void {
  panel.replaceChildren(
    h("h2", {}, "Rooms"),
    table(["Room", "Users", "Streams"], rooms.map((room) => [room.room, String(room.users), String(room.streams)]), "No room is in use."),
    h("h2", {}, "Streams"),
    table(
      ["Stream", "User", "Node", "Moves", ""],
      streams.map((stream) => {
        const { room, stream: id } = stream.ref ?? { room: "", stream: "" };
        return [
          `${room}/${id}`,
          stream.user,
          stream.origin?.id ?? "moving",
          // The first session of an SDK is move 1, that of a plain client move 0.
          String(Math.max(0, (stream.claim?.move ?? 0) - 1)),
          button("Play", () => play(room, id), () => undefined),
        ];
      }),
      "Nothing is published.",
    ),
  );
}
