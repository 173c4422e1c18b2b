/** Plays a stream: `play.html?coordinator=URL&room=demo&stream=camera&user=bob`. */

import { type PlayerState, WaystationClient } from "@waystation/client";

import { element, parameter, say, userToken } from "./page";

const client = new WaystationClient({
  coordinators: [parameter("coordinator", "http://127.0.0.1:7400")],
  region: "eu",
  roomRetryTime: 5 * 60,
  avRetryTime: 60,
  hedging: true,
});

function tell({ name, code, text, final, node, trace, retryAfterMs }: PlayerState): void {
  say(code === 0 ? `${name} ${node?.id ?? ""}` : `${name}: ${text} (${code})`);
  if (!final) return;
  // Nothing is tried again by itself. Which nodes were tried, and what each answered:
  for (const { node, detail, atMs, tookMs } of trace) say(`${node.id}: ${detail}, at ${atMs} ms for ${tookMs} ms`);
  if (retryAfterMs !== null) say(`worth another try in ${retryAfterMs} ms`);
}

element("button", "play").onclick = async () => {
  const roomId = parameter("room", "demo");
  const token = await userToken(roomId, parameter("user", "bob"));
  const room = client.login({ room: roomId, token });
  const player = client.play(room, parameter("stream", "camera"));

  // Once, for the player's whole life: when it changes nodes, tracks are swapped within.
  element("video", "picture").srcObject = player.media;

  player.on("state", tell);
  player.on("attempt", ({ node, detail, tookMs }) => say(`attempt at ${node.id}: ${detail} after ${tookMs} ms`));
  player.on("gap", ({ ms, before, after }) => say(`gap of ${Math.round(ms)} ms, ${before.id} to ${after.id}`));
  player.on("idle", ({ idle }) => say(idle ? "idle: nothing is sent" : "media flows"));
  player.on("quality", ({ name, rttMs, loss }) => say(`quality ${name}, rtt ${rttMs} ms, loss ${loss}`));

  element("button", "stop").onclick = async () => {
    player.stop();
    await client.close();
    say("closed");
  };
};
