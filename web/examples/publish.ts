/** Publishes the camera and the microphone: `publish.html?coordinator=URL&room=demo&stream=camera&user=ann`. */

import { cameraAndMicrophone, screen, WaystationClient } from "@waystation/client";

import { element, parameter, say, userToken } from "./page";

const client = new WaystationClient({ coordinators: [parameter("coordinator", "http://127.0.0.1:7400")] });

element("button", "publish").onclick = async () => {
  const roomId = parameter("room", "demo");
  const token = await userToken(roomId, parameter("user", "ann"));
  const room = client.login({ room: roomId, token });

  const camera = await cameraAndMicrophone();
  element("video", "preview").srcObject = camera;
  const publisher = client.publish(room, parameter("stream", "camera"), camera, {
    codecs: ["VP8", "H264"],
    maxBitrate: 1_500_000,
    degradation: "maintain-framerate",
  });
  publisher.on("state", ({ name, code, text, node }) => {
    say(code === 0 ? `${name} ${node?.id ?? ""}` : `${name}: ${text} (${code})`);
  });
  publisher.on("quality", ({ name, bitsPerSecond }) => say(`quality ${name}, ${bitsPerSecond} bits/s`));
  publisher.on("trackEnded", ({ kind }) => say(`the browser ended the ${kind}`));

  // Muting sends nothing, and keeps the stream in the room. The preview goes on.
  element("button", "mute").onclick = () => publisher.mute("audio", !publisher.muted("audio"));

  element("button", "share").onclick = async () => {
    const camera = publisher.track("video");
    // When the person ends the share by the browser's own button, the camera is back.
    const shared = await screen(() => void publisher.replaceTrack("video", camera));
    await publisher.replaceTrack("video", shared.getVideoTracks()[0] ?? null);
    say("sharing the screen");
  };

  element("button", "stop").onclick = async () => {
    // Tracks are the app's: stop them, or the camera's light stays on.
    for (const track of [...camera.getTracks(), publisher.track("video")]) track?.stop();
    publisher.stop();
    await client.close();
    say("closed");
  };
};
