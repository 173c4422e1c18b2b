/** What may be published: the built-in picture and tone, a camera, a microphone, the screen. */

import { cameraAndMicrophone, type Devices, type Kind, screen } from "../sdk";
import { type Source, testPicture, testTone } from "./source";

/** A value and what a select shows for it. */
export type Choice = readonly [value: string, label: string];

/** Before the id of a device. */
const DEVICE = "device:";

/** The pictures that may be chosen. */
export function pictures(devices: Devices): Choice[] {
  return [["test", "Test picture"], ...named(devices.cameras, "Camera"), ["screen", "Screen"]];
}

/** The sounds that may be chosen. */
export function sounds(devices: Devices): Choice[] {
  return [["tone", "Tone"], ...named(devices.microphones, "Microphone")];
}

/** Devices have no names (and no ids) before the person has allowed one use: then any one stands for the kind. */
function named(devices: readonly MediaDeviceInfo[], noun: string): Choice[] {
  const known = devices.filter(({ deviceId, label }) => deviceId !== "" && label !== "");
  if (known.length === 0) return [[DEVICE, noun]];
  return known.map(({ deviceId, label }) => [DEVICE + deviceId, label]);
}

/** Opens what was chosen. `label` is written into the test picture. Errors say what to do. */
export async function open(kind: Kind, choice: string, label: string): Promise<Source> {
  if (choice === "test") return testPicture(label);
  if (choice === "tone") return testTone();
  try {
    if (choice === "screen") return ofMedia(await screen(() => undefined), kind);
    const id = choice.slice(DEVICE.length);
    return ofMedia(await cameraAndMicrophone({ video: false, audio: false, [kind]: id === "" ? true : id }), kind);
  } catch (error) {
    throw new Error(mediaProblem(kind, error), { cause: error });
  }
}

function ofMedia(media: MediaStream, kind: Kind): Source {
  const [track] = kind === "video" ? media.getVideoTracks() : media.getAudioTracks();
  if (track === undefined) throw new DOMException("no track", "NotFoundError");
  return { track, stop: () => { for (const each of media.getTracks()) each.stop(); } };
}

/** Why a device or screen could not be opened, and what to do. */
export function mediaProblem(kind: Kind, error: unknown): string {
  const [device, instead] = kind === "video" ? ["camera or screen", "test picture"] : ["microphone", "tone"];
  const name = error instanceof Error || error instanceof DOMException ? error.name : "";
  switch (name) {
    case "NotAllowedError":
      return `The browser was not allowed to use the ${device}: allow it in the address bar, or publish the ${instead}.`;
    case "NotFoundError":
    case "OverconstrainedError":
      return `No such ${device} is plugged in: plug one in, or publish the ${instead}.`;
    case "NotReadableError":
      return `The ${device} is used by another program: close that one, or publish the ${instead}.`;
    default:
      // Without a secure address there is no `mediaDevices` at all.
      return `This browser offers no ${device} here (it does so for https and localhost only): publish the ${instead}.`;
  }
}
