/** Sits in a room and renews its token before it expires: `room.html?coordinator=URL&room=demo&user=eve`. */

import { ErrorCode, type RoomState, WaystationClient } from "@waystation/client";

import { element, parameter, say, userToken } from "./page";

const client = new WaystationClient({ coordinators: [parameter("coordinator", "http://127.0.0.1:7400")] });
const roomId = parameter("room", "demo");
const user = parameter("user", "eve");

function tell({ name, code, text, final, session }: RoomState): void {
  if (code === 0) return say(name === "Connected" ? `Connected as session ${session}` : name);
  // The client connects again by itself, for `roomRetryTime`.
  if (!final) return say(`away: ${text}`);
  switch (code) {
    // Ask for another token, and log in again.
    case ErrorCode.TokenRefused:
    case ErrorCode.TokenExpired:
      return say("the token is no good");
    // The same user is here from another tab. Do not log in again by itself: the two would kick each other.
    case ErrorCode.Replaced:
      return say("logged in elsewhere");
    // Tell the user. The rest may be tried again, by hand or after a while.
    default:
      return say(`the room is lost: ${text} (${code})`);
  }
}

element("button", "login").onclick = async () => {
  const room = client.login({ room: roomId, token: await userToken(roomId, user), notifyUsers: true });
  room.on("state", tell);
  room.on("users", ({ change, entries }) => entries.forEach(({ user }) => say(`${change} user ${user}`)));
  room.on("streams", ({ change, entries }) => {
    for (const { stream, user } of entries) say(`${change} stream ${stream} of ${user}`);
  });
  room.on("tokenExpiring", async ({ inMs }) => {
    say(`the token expires in ${Math.round(inMs / 1000)} s`);
    room.renew(await userToken(roomId, user));
  });
  element("button", "logout").onclick = () => room.logout();
};

client.on("connection", (connection) => say(`coordinator: ${connection.state}`));
client.on("nodes", (nodes) => say(`nodes: ${nodes.map(({ node, health }) => `${node.id} ${health}`).join(", ")}`));
