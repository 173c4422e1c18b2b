/** Publishes the camera by plain WHIP to a node of the person's choice. */

import type { Access } from "../access";
import { button, field, h } from "../dom";
import { type MediaSession, publish } from "../media";
import { type NodeChoice, nodeSelect } from "./node-select";

/** What the panel is doing. */
type State = { kind: "idle" } | { kind: "publishing"; session: MediaSession; media: MediaStream };

/** The panel; its node list follows the cluster through `choice`. */
export function publishPanel(panel: HTMLElement, access: Access, choice: NodeChoice): void {
  const room = h("input", { value: "lobby", id: "publish-room" });
  const stream = h("input", { value: "camera", id: "publish-stream" });
  const user = h("input", { value: "alice", id: "publish-user" });
  const node = nodeSelect(choice);
  node.id = "publish-node";
  const preview = h("video", { muted: true, autoplay: true, playsInline: true, className: "preview" });
  const note = h("p", { className: "note", id: "publish-note" });
  let state: State = { kind: "idle" };

  const stop = async () => {
    if (state.kind === "idle") return;
    const { session, media } = state;
    state = { kind: "idle" };
    for (const track of media.getTracks()) track.stop();
    preview.srcObject = null;
    note.textContent = "stopped";
    await session.close();
  };
  const start = async () => {
    await stop();
    const token = await access.token(room.value, user.value);
    const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 640, height: 360 } });
    preview.srcObject = media;
    try {
      const target = { nodeUrl: node.value, room: room.value, stream: stream.value, token };
      const session = await publish(target, media);
      state = { kind: "publishing", session, media };
      session.peer.onconnectionstatechange = () => { note.textContent = session.peer.connectionState; };
      note.textContent = session.peer.connectionState;
    } catch (error) {
      for (const track of media.getTracks()) track.stop();
      throw error;
    }
  };
  const failed = (error: Error) => { note.textContent = error.message; };
  const startButton = button("Publish camera", start, failed);
  startButton.id = "publish-start";
  const stopButton = button("Stop", stop, failed);
  stopButton.id = "publish-stop";
  panel.replaceChildren(
    h("h2", {}, "Publish"),
    h("div", { className: "form" }, field("Room", room), field("Stream", stream), field("User", user), field("Node", node)),
    h("div", { className: "buttons" }, startButton, stopButton),
    note,
    preview,
  );
}
